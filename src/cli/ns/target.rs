//! What a TARGET on the command line of `ns` means: a pid, a container, or a namespace file.
//! Interface: [`resolve`]. Read next: [`crate::namespaces::Target`].

use crate::containers::store::Store;
use crate::error::{Error, Kind, Result};
use crate::namespaces::Target;
use std::path::{Path, PathBuf};

/// A number is a process; what holds a slash, or exists, is a file; all else is a container's id,
/// the beginning of one, or its name. Errors: no such thing, or a container that does not run.
pub fn resolve(text: &str, root: Option<&Path>) -> Result<Target> {
    if let Ok(pid) = text.parse::<i32>() {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return Err(Error::kind(Kind::NotFound, format!("there is no process {pid}")));
        }
        return Ok(Target::Process(pid));
    }
    if text == "self" {
        return Ok(Target::Process(std::process::id() as i32));
    }
    if text.contains('/') || Path::new(text).exists() {
        return Ok(Target::File(PathBuf::from(text)));
    }
    let container = Store::open(root)?.find(text).map_err(|e| match e.get_kind() {
        Kind::NotFound => Error::kind(
            Kind::NotFound,
            format!("{text:?} is neither a process, a container nor a namespace file"),
        )
        .hint("`glassbox ps` lists the containers, `glassbox ns ls` the namespaces with their processes"),
        _ => e,
    })?;
    let status = container.written_status()?;
    if !status.phase.is_live() || status.pid <= 0 {
        let message = format!("container {text:?} is not running, so it has no namespaces");
        return Err(Error::kind(Kind::Conflict, message));
    }
    Ok(Target::Process(status.pid))
}
