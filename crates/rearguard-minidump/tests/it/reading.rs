//! Shorthands over the reference reader.
//!
//! Every dump that a test reads is given to `minidump-processor` too, and is kept for the readers that `cargo xtask readers` starts.

use std::collections::BTreeSet;

use minidump::system_info::Cpu;
use minidump::{
    Minidump, MinidumpContext, MinidumpException, MinidumpMiscInfo, MinidumpModuleList,
    MinidumpSoftErrors, MinidumpSystemInfo, MinidumpThreadList, MinidumpThreadNames,
    UnifiedMemoryList,
};
use readers::Processed;
use serde_json::Value;

/// A dump that was parsed; every stream that it must have is there.
pub(crate) struct Dump {
    pub(crate) bytes: Vec<u8>,
    pub(crate) dump: Minidump<'static, Vec<u8>>,
}

impl Dump {
    pub(crate) fn parse(bytes: Vec<u8>) -> Dump {
        Dump::parse_with(bytes, None)
    }

    /// The same for a dump about which the dumped program has told the truth: a part of a record as `readers` has it.
    pub(crate) fn parse_with(bytes: Vec<u8>, truth: Option<&Value>) -> Dump {
        readers::save(&bytes, truth).unwrap();
        let record = readers::record_of(&bytes).unwrap();
        let disagreements = Processed::of(&bytes).unwrap().disagreements(&record);
        assert!(disagreements.is_empty(), "{disagreements:#?}");
        if let Some(truth) = truth {
            let mut truth = truth.clone();
            // The stack needs the files and takes its time; whoever reads the kept dumps looks at it.
            truth.as_object_mut().unwrap().retain(|field, _| field != "frames" && field != "root");
            let untruths = readers::untruths(&truth, &record, readers::Reader::Minidump);
            assert!(untruths.is_empty(), "{untruths:#?}");
        }
        let dump = Dump::open(bytes);
        assert_eq!(
            dump.system().cpu,
            if cfg!(target_arch = "x86_64") { Cpu::X86_64 } else { Cpu::Arm64 }
        );
        dump
    }

    /// Only the reference reader's view, for a look before the truth is whole.
    pub(crate) fn open(bytes: Vec<u8>) -> Dump {
        let dump = Minidump::read(bytes.clone()).unwrap();
        Dump { bytes, dump }
    }

    pub(crate) fn system(&self) -> MinidumpSystemInfo {
        self.dump.get_stream().unwrap()
    }

    pub(crate) fn misc(&self) -> MinidumpMiscInfo {
        self.dump.get_stream().unwrap()
    }

    pub(crate) fn threads(&self) -> MinidumpThreadList<'_> {
        self.dump.get_stream().unwrap()
    }

    /// The ids of the threads, in ascending order; none is there twice.
    pub(crate) fn thread_ids(&self) -> Vec<i32> {
        let listed: Vec<i32> =
            self.threads().threads.iter().map(|thread| thread.raw.thread_id as i32).collect();
        let ids: BTreeSet<i32> = listed.iter().copied().collect();
        assert_eq!(ids.len(), listed.len(), "a thread is there twice: {listed:?}");
        ids.into_iter().collect()
    }

    pub(crate) fn names(&self) -> MinidumpThreadNames {
        self.dump.get_stream().unwrap()
    }

    pub(crate) fn modules(&self) -> MinidumpModuleList {
        self.dump.get_stream().unwrap()
    }

    pub(crate) fn exception(&self) -> MinidumpException<'_> {
        self.dump.get_stream().unwrap()
    }

    pub(crate) fn memory(&self) -> UnifiedMemoryList<'_> {
        self.dump.get_memory().unwrap()
    }

    pub(crate) fn soft_errors(&self) -> String {
        let errors: Result<MinidumpSoftErrors, _> = self.dump.get_stream();
        errors.map(|errors| errors.as_ref().to_owned()).unwrap_or_default()
    }

    /// The context of a thread.
    pub(crate) fn context(&self, tid: i32) -> Option<MinidumpContext> {
        let system = self.system();
        let threads = self.threads();
        let thread = threads.get_thread(tid as u32).expect("the thread is in the list");
        thread.context(&system, None).map(|context| context.into_owned())
    }

    /// Start and bytes of the stack of a thread.
    pub(crate) fn stack(&self, tid: i32) -> Option<(u64, Vec<u8>)> {
        let memory = self.memory();
        let threads = self.threads();
        let thread = threads.get_thread(tid as u32).expect("the thread is in the list");
        let stack = thread.stack_memory(&memory)?;
        (!stack.bytes().is_empty()).then(|| (stack.base_address(), stack.bytes().to_vec()))
    }

    /// Whether the bytes at an address are in the dump.
    pub(crate) fn has(&self, address: u64) -> bool {
        self.memory().memory_at_address(address).is_some()
    }
}
