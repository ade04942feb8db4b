//! Limits that are kept, whatever the target has.

use rearguard_minidump::{Limits, Request, UserStream};

use crate::live::{ping, start};
use crate::reading::Dump;
use crate::zoo;

/// Goal: the limit of bytes is kept, the crash and the list of threads survive longest, and the dump says what is missing.
#[test]
fn the_file_keeps_its_limit() {
    let (mut zoo, _) = start(60);
    let full = zoo::capture(&Request::new(zoo.pid())).unwrap().encode().len();
    for file_bytes_max in [32 * 1024, 40 * 1024, 64 * 1024, 100 * 1024, 150 * 1024, full - 1, full]
    {
        let mut request = Request::new(zoo.pid());
        request.limits.file_bytes_max = file_bytes_max;
        request.annotations = &[("key", "value")];
        let bytes = zoo::capture(&request).unwrap().encode();
        assert!(bytes.len() <= file_bytes_max, "{} > {file_bytes_max}", bytes.len());
        let dump = Dump::parse(bytes);
        assert_eq!(dump.threads().threads.len(), zoo.states().len(), "{file_bytes_max}");
        assert_ne!(dump.soft_errors(), "", "{file_bytes_max}");
        assert!(dump.modules().iter().count() > 0, "{file_bytes_max}");
    }
    ping(&mut zoo);
}

/// Goal: the limits of threads, stacks, modules and mappings are kept and told.
#[test]
fn the_other_limits_are_kept() {
    let (mut zoo, _) = start(10);
    let mut request = Request::new(zoo.pid());
    request.limits = Limits {
        threads_max: 4,
        stack_bytes_per_thread_max: 512,
        modules_max: 2,
        maps_bytes_max: 1000,
        text_bytes_max: 200,
        ..Limits::default()
    };
    let capture = zoo::capture(&request).unwrap();
    let told = capture.soft_errors().iter();
    let told = told.filter(|error| error.operation() == "describe more threads than").count();
    assert_eq!(told, 1, "whatever the number of lists");
    assert!(capture.soft_errors().iter().any(|error| error.operation() == "read mappings"));
    let dump = Dump::parse(capture.encode());
    assert_eq!(dump.threads().threads.len(), 4);
    assert!(dump.modules().iter().count() <= 2);
    for thread in &dump.threads().threads {
        assert!(thread.raw.stack.memory.data_size <= 512);
    }
    ping(&mut zoo);
}

/// Goal: a stream of the caller's that doesn't fit is left out as a whole, and the dump says so.
#[test]
fn a_large_stream_of_the_caller_is_left_out() {
    let (mut zoo, _) = start(0);
    let large = vec![7; 200 * 1024];
    let streams = [
        UserStream { stream_type: 0x5247_0001, bytes: &large },
        UserStream { stream_type: 0x5247_0002, bytes: b"small" },
    ];
    let mut request = Request::new(zoo.pid());
    request.limits.file_bytes_max = 100 * 1024;
    request.user_streams = &streams;
    let dump = Dump::parse(zoo::capture(&request).unwrap().encode());
    assert!(dump.dump.get_raw_stream(0x5247_0001).is_err());
    assert_eq!(dump.dump.get_raw_stream(0x5247_0002).unwrap(), b"small");
    assert!(dump.soft_errors().contains("keep stream within the file's limit"));
    ping(&mut zoo);
}
