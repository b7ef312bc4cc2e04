//! The binary: parses the first word, runs that subcommand, prints an error once.
//!
//! Everything else is in the library. Read next: [`glassbox::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match glassbox::cli::run(std::env::args_os().collect()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            glassbox::ui::print_error(&error);
            ExitCode::from(error.exit_status())
        }
    }
}
