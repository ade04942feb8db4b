//! The smallest program that prints a line.

fn main() {
    println!("hello");
}
