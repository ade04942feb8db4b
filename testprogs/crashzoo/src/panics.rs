//! The ways of Rust: panics that unwind, that can't, and that meet another one.

/// What the hook, the black box and the report have to show.
const MESSAGE: &str = "crashzoo panics as it was asked to";

/// Unwinds to the top of its thread: exit status 101 on the main thread.
pub(crate) fn panic() -> ! {
    panic!("{MESSAGE}")
}

/// A panic that ends one thread, after which the program goes on: nothing has crashed.
pub(crate) fn in_thread() -> Result<(), String> {
    let thread = std::thread::Builder::new()
        .name("panicking".to_owned())
        .spawn(|| panic())
        .map_err(|error| format!("panic-in-thread: {error}"))?;
    match thread.join() {
        Err(_payload) => Ok(()),
        Ok(never) => never,
    }
}

/// A panic that must not cross a C frame: std aborts.
pub(crate) fn abort() {
    callback();
}

extern "C" fn callback() {
    panic()
}

/// A panic while another one unwinds: std aborts.
pub(crate) fn in_drop() {
    let _second = PanicsWhenDropped;
    panic()
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("{MESSAGE}, in a destructor")
    }
}

/// Prints to a reader that has gone, as a tool does in front of `head`, until `println!` panics.
pub(crate) fn at_the_end_of_a_pipe() -> ! {
    loop {
        println!("more");
    }
}
