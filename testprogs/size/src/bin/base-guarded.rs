//! A program with threads, files and other programs, with rearguard behind it.

use std::error::Error;

use rearguard::{Consent, Rearguard};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let _guard = Rearguard::new("base", env!("CARGO_PKG_VERSION"))
        .collector("https://crashes.example.com/submit")
        .consent(Consent::Granted)
        .start()?;
    println!("{}", size_programs::work()?);
    Ok(())
}
