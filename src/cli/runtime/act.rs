//! `glassbox runtime start`, `state`, `kill`, `delete`, `pause`, `resume`: operations on one
//! container by its id.
//!
//! Read next: [`crate::runtime::operations`].

use super::Common;
use crate::error::Result;
use crate::host::Host;
use crate::runtime::operations;
use crate::security::signals;
use crate::spec::runtime::State;
use crate::spec::time::Time;
use crate::ui;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct IdArgs {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(clap::Args)]
pub(super) struct KillArgs {
    /// To all processes of the container, not only to the first
    #[arg(short, long)]
    all: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// A name or a number
    #[arg(value_name = "SIGNAL", default_value = "TERM", allow_negative_numbers = true)]
    signal: String,
}

#[derive(clap::Args)]
pub(super) struct DeleteArgs {
    /// Kill it first when it runs; no error when it does not exist
    #[arg(short, long)]
    force: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) fn start(args: &IdArgs, common: &Common) -> Result<u8> {
    let mut container = common.root.find(&args.id)?;
    operations::start(&mut container, &mut *common.explain.watch())?;
    Ok(0)
}

/// The specification's state, and runc's further fields.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FullState {
    #[serde(flatten)]
    state: State,
    rootfs: PathBuf,
    created: Time,
    owner: String,
}

impl FullState {
    pub(super) fn of(container: &crate::runtime::store::Container, host: &Host) -> Result<FullState> {
        let record = &container.record;
        Ok(FullState {
            state: container.state(host)?,
            rootfs: record.rootfs.clone(),
            created: record.created,
            owner: owner(record.uid),
        })
    }
    pub(super) fn state(&self) -> &State {
        &self.state
    }
    pub(super) fn created(&self) -> Time {
        self.created
    }
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }
}

/// A user's name out of /etc/passwd, or `#UID`.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = uid.to_string();
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&id.as_str()))
        .map_or_else(|| format!("#{uid}"), |fields| fields[0].to_string())
}

pub(super) fn state(args: &IdArgs, common: &Common) -> Result<u8> {
    let container = common.root.find(&args.id)?;
    ui::print_json(&FullState::of(&container, &Host::detect()?)?);
    Ok(0)
}

pub(super) fn kill(args: &KillArgs, common: &Common) -> Result<u8> {
    let container = common.root.find(&args.id)?;
    let signal = signals::parse(&args.signal)?;
    operations::kill(&container, &Host::detect()?, signal, args.all)?;
    Ok(0)
}

pub(super) fn delete(args: &DeleteArgs, common: &Common) -> Result<u8> {
    for warning in operations::delete(&common.root, &args.id, args.force, &Host::detect()?)? {
        common.log.warn(&format!("{warning:#}"));
    }
    Ok(0)
}

pub(super) fn pause(args: &IdArgs, common: &Common) -> Result<u8> {
    operations::pause(&mut common.root.find(&args.id)?, &Host::detect()?)?;
    Ok(0)
}

pub(super) fn resume(args: &IdArgs, common: &Common) -> Result<u8> {
    operations::resume(&mut common.root.find(&args.id)?, &Host::detect()?)?;
    Ok(0)
}
