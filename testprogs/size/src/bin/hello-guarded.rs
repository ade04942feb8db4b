//! The smallest program that prints a line, with rearguard behind it.

use rearguard::{Consent, Error, Rearguard};

fn main() -> Result<(), Error> {
    let _guard = Rearguard::new("hello", env!("CARGO_PKG_VERSION"))
        .collector("https://crashes.example.com/submit")
        .consent(Consent::Granted)
        .start()?;
    println!("hello");
    Ok(())
}
