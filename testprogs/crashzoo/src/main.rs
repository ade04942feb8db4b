//! The zoo's own executable: everything is in the library, which `badguard` shares.

use std::process::ExitCode;

fn main() -> ExitCode {
    crashzoo::main()
}
