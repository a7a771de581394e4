//! Pages for `man` and completion for shells, from the definition that the program itself goes by.
use crate::cli::Cli;
use crate::problem::{Problem, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::Write;
use std::path::Path;

/// The page of the program, or of one of its commands.
pub fn page(of: &[String]) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    for name in of {
        let found = command.find_subcommand(name).cloned();
        command = found.ok_or_else(|| Problem::not_found(format!("there is no command {}", name.escape_debug())))?;
    }
    let mut text = Vec::new();
    Man::new(command).render(&mut text).map_err(|e| not_written(&e))?;
    write(&text)
}

/// All pages, into a directory.
pub fn pages(directory: &Path) -> Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
        .map_err(|e| Problem::unavailable(format!("the pages cannot be written to {}: {e}", directory.display())))
}

pub fn completion(shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dkusecrets", &mut text);
    write(&text)
}

fn write(text: &[u8]) -> Result<()> {
    std::io::stdout().write_all(text).map_err(|e| not_written(&e))
}

fn not_written(e: &std::io::Error) -> Problem {
    Problem::unavailable(format!("standard output cannot be written to: {e}"))
}
