//! The binary: parses the first word, runs that subcommand, prints an error once.
//!
//! Everything else is in the library. Read next: [`glassbox::cli`]; for what stands in place of
//! `fn main`, [`glassbox::sys::entry`].

#![no_main]

glassbox::entry!(run);

fn run() -> u8 {
    match glassbox::cli::run(std::env::args_os().collect()) {
        Ok(status) => status,
        Err(error) => {
            glassbox::ui::print_error(&error);
            error.exit_status()
        }
    }
}
