//! A program with threads, files and other programs.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    println!("{}", size_programs::work()?);
    Ok(())
}
