//! Explaining: what is being done, what was done, and the concepts behind it.
//!
//! What it does, in four parts:
//! - [`Narrator`] tells a set-up while it happens (`--explain`), a plan before it happens
//!   (`--dry-run`: [`render_plan`]) and a journal long after ([`render_journal`]). All three are the
//!   same list of steps seen differently.
//! - [`Picture`] draws an image, document by document.
//! - [`topics`] teaches each concept with live values of this host. The texts are the book's.
//!
//! What it implements: "Explained" and decision 3 of the design: what is told was read from the
//! kernel or from a call that just happened, never from what the program meant to do.
//!
//! Read next: `told.rs` (records become steps), `narrate.rs` and `layout.rs` (steps become
//! lines), `topics/`.

mod image;
mod layout;
mod narrate;
mod story;
mod told;
pub mod topics;
mod words;

pub use image::Picture;
pub use narrate::{Depth, Narrator, render_journal, render_plan};
