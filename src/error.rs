//! The one error type: message, source chain, hint, topic.
//!
//! What it implements: the error form of the design,
//!
//! ```text
//! error: cannot create a user namespace
//!   caused by: unshare(CLONE_NEWUSER): EPERM (Operation not permitted)
//!   hint: user.max_user_namespaces is 0 on this host
//!   learn more: glassbox explain user-namespaces
//! ```
//!
//! Interface: [`Error::new`], the extension trait [`Context`] on any `Result`, and [`Kind`], which
//! is the only thing a caller may match on. An error is given context or printed, never both; it
//! is printed once, by `ui::print_error`, from `main`.
//!
//! Read next: [`crate::sys`], whose errors carry the call and the errno.

use std::borrow::Cow;
use std::fmt;

/// A result whose error can be shown to a user as it is.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may match on. Each kind has the exit status that docker's users expect of `run`;
/// `cli::status` says what other commands make of 125.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Anything that glassbox itself could not do: exit status 125.
    #[default]
    Failed,
    /// The thing that was named does not exist (a container, an image, a path): exit status 125.
    NotFound,
    /// The thing exists already, or is in a state that forbids the operation: exit status 125.
    Conflict,
    /// This kernel, user or build cannot do it: exit status 125.
    Unsupported,
    /// The command line or a configuration is wrong: exit status 125.
    Usage,
    /// The value of a flag cannot be understood: exit status 125, whatever the command.
    BadFlag,
    /// The container's command exists and cannot be executed: exit status 126.
    CannotExecute,
    /// The container's command does not exist: exit status 127.
    CommandNotFound,
}

/// Message, source chain, hint and topic. See the module's documentation for how it prints.
pub struct Error(Box<Inner>);

struct Inner {
    message: Cow<'static, str>,
    kind: Kind,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    hint: Option<Cow<'static, str>>,
    topic: Option<&'static str>,
}

impl Error {
    /// A new error: one sentence without a full stop, in lower case, naming what could not be done
    /// and to what ("cannot read /proc/12/ns/pid").
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner {
            message: message.into(),
            kind: Kind::default(),
            source: None,
            hint: None,
            topic: None,
        }))
    }

    /// The same with a kind other than [`Kind::Failed`].
    pub fn kind(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(message).with_kind(kind)
    }

    /// Sets the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Sets the cause, which prints as a `caused by` line.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds advice: what the user can do about it, with this host's real values where known.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Names the `glassbox explain` topic that teaches the concept behind the failure.
    #[must_use]
    pub fn topic(mut self, topic: &'static str) -> Self {
        self.0.topic = Some(topic);
        self
    }

    /// Wraps this error in a further one. Kind, hint and topic stay visible from the outside.
    #[must_use]
    pub fn context(self, message: impl Into<Cow<'static, str>>) -> Self {
        let kind = self.0.kind;
        Error(Box::new(Inner {
            message: message.into(),
            kind,
            hint: None,
            topic: None,
            source: Some(Box::new(self)),
        }))
    }

    /// The kind.
    pub fn get_kind(&self) -> Kind {
        self.0.kind
    }

    /// The first line: what could not be done.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The first hint on the way down the chain.
    pub fn get_hint(&self) -> Option<&str> {
        self.walk().find_map(|e| e.0.hint.as_deref())
    }

    /// The first topic on the way down the chain.
    pub fn get_topic(&self) -> Option<&'static str> {
        self.walk().find_map(|e| e.0.topic)
    }

    /// The `caused by` lines, outermost first.
    pub fn causes(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let line = match cause.downcast_ref::<std::io::Error>() {
                Some(io) => describe_io(io),
                None => cause.to_string(),
            };
            // Some libraries' errors say their cause themselves, and then have it as a cause, too.
            let said = lines.last().map_or(self.message(), String::as_str);
            if !said.ends_with(&line) {
                lines.push(line);
            }
            next = cause.source();
        }
        lines
    }

    /// The errno at the bottom of the chain, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(cause) = next {
            if let Some(sys) = cause.downcast_ref::<crate::sys::SysError>() {
                return Some(sys.errno as i32);
            }
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && let Some(raw) = io.raw_os_error()
            {
                return Some(raw);
            }
            next = cause.source();
        }
        None
    }

    /// The status that `main` exits with.
    pub fn exit_status(&self) -> u8 {
        match self.0.kind {
            Kind::CannotExecute => 126,
            Kind::CommandNotFound => 127,
            _ => 125,
        }
    }

    /// Joins the failures of a teardown, which goes on after a failure and reports all of them.
    /// Returns `Ok` when there are none.
    pub fn join(message: impl Into<Cow<'static, str>>, failures: Vec<Error>) -> Result<()> {
        let mut failures = failures.into_iter();
        let Some(first) = failures.next() else {
            return Ok(());
        };
        let rest: Vec<String> = failures.map(|e| format!("{e:#}")).collect();
        let mut error = first.context(message);
        if !rest.is_empty() {
            error = error.hint(format!("further failures: {}", rest.join("; ")));
        }
        Err(error)
    }

    fn walk(&self) -> impl Iterator<Item = &Error> {
        std::iter::successors(Some(self), |e| e.below())
    }

    /// The next of our own errors down the chain, also one that went through a `Read` and so came
    /// out as an `io::Error`.
    fn below(&self) -> Option<&Error> {
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            if let Some(ours) = cause.downcast_ref::<Error>() {
                return Some(ours);
            }
            let io = cause.downcast_ref::<std::io::Error>();
            next = match io.and_then(std::io::Error::get_ref) {
                Some(inside) => match inside.downcast_ref::<Error>() {
                    Some(ours) => return Some(ours),
                    None => inside.source(),
                },
                None => cause.source(),
            };
        }
        None
    }
}

/// "EPERM (Operation not permitted)" in place of std's "Operation not permitted (os error 1)".
fn describe_io(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(raw) => crate::sys::describe_errno(nix::errno::Errno::from_raw(raw)),
        None => error.to_string(),
    }
}

impl fmt::Display for Error {
    /// The message; with `{:#}` the whole chain on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if f.alternate() {
            for cause in self.causes() {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")?;
        match self.get_hint() {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

impl From<crate::sys::SysError> for Error {
    /// A system call that fails without context still says which call and which errno.
    fn from(error: crate::sys::SysError) -> Self {
        Error::new(error.to_string()).caused_by(error)
    }
}

/// Attaches context to any result.
pub trait Context<T> {
    /// Wraps the error: `message` becomes the first line, the old error the cause.
    fn context(self, message: impl Into<Cow<'static, str>>) -> Result<T>;
    /// The same, with the message made only on failure.
    fn with_context<M: Into<Cow<'static, str>>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: IntoCause> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|e| e.into_cause(message.into()))
    }
    fn with_context<M: Into<Cow<'static, str>>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|e| e.into_cause(message().into()))
    }
}

/// What can stand in the `caused by` chain.
pub trait IntoCause {
    /// Becomes the cause of a new error with this message.
    fn into_cause(self, message: Cow<'static, str>) -> Error;
}

impl IntoCause for Error {
    fn into_cause(self, message: Cow<'static, str>) -> Error {
        self.context(message)
    }
}

macro_rules! causes {
    ($($t:ty),*) => {$(
        impl IntoCause for $t {
            fn into_cause(self, message: Cow<'static, str>) -> Error {
                Error::new(message).caused_by(self)
            }
        }
    )*};
}
causes!(
    crate::sys::SysError,
    std::io::Error,
    serde_json::Error,
    std::num::ParseIntError,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
    std::ffi::NulError
);

impl<T> Context<T> for Option<T> {
    fn context(self, message: impl Into<Cow<'static, str>>) -> Result<T> {
        self.ok_or_else(|| Error::new(message))
    }
    fn with_context<M: Into<Cow<'static, str>>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.ok_or_else(|| Error::new(message().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_the_call_and_the_errno() {
        let io = std::io::Error::from_raw_os_error(libc::EPERM);
        let e = Err::<(), _>(io)
            .context("cannot write uid_map")
            .unwrap_err()
            .context("outer");
        assert_eq!(e.message(), "outer");
        assert_eq!(
            e.causes(),
            ["cannot write uid_map", "EPERM (Operation not permitted)"]
        );
        assert_eq!(e.errno(), Some(libc::EPERM));
        assert_eq!(e.exit_status(), 125);
    }

    #[test]
    fn hint_and_topic_are_found_below() {
        let e = Error::new("a").hint("do b").topic("c").context("d");
        assert_eq!(e.get_hint(), Some("do b"));
        assert_eq!(e.get_topic(), Some("c"));
    }

    #[test]
    fn an_error_that_went_through_a_reader_keeps_its_hint() {
        let inner = Error::new("inner").hint("do b").topic("c");
        let e = Err::<(), _>(std::io::Error::other(inner.context("middle")))
            .context("outer")
            .unwrap_err();
        assert_eq!(e.causes(), ["middle", "inner"]);
        assert_eq!((e.get_hint(), e.get_topic()), (Some("do b"), Some("c")));
    }

    #[test]
    fn join_keeps_every_failure() {
        assert!(Error::join("x", vec![]).is_ok());
        let e = Error::join("teardown", vec![Error::new("one"), Error::new("two")]).unwrap_err();
        assert_eq!(e.causes(), ["one"]);
        assert_eq!(e.get_hint(), Some("further failures: two"));
    }
}
