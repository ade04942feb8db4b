//! Compiles the C++ of the program with line tables alone, as `debug = "line-tables-only"` does for Rust.

use std::process::Stdio;

fn main() {
    println!("cargo::rerun-if-changed=src/press.cpp");
    println!("cargo::rustc-check-cfg=cfg(has_cpp)");
    let mut build = cc::Build::new();
    // Nothing of the C++ library is used, so none is linked.
    build.cpp(true).cpp_link_stdlib(None).file("src/press.cpp");
    build.opt_level(2).debug(false).flag("-g1");
    // Without a compiler everything else of the workspace can still be built; what needs this part fails and says so.
    let mut compiler = build.get_compiler().to_command();
    let found = compiler.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        build.compile("press");
        println!("cargo::rustc-cfg=has_cpp");
    } else {
        println!("cargo::warning=there is no C++ compiler, so the program can't die in C++");
    }
}
