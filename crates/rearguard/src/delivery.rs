//! Which reports of a store are sent, and when: consent, schedule, limits, and what is noted of each try.
//!
//! Before a report is sent its try is counted, and behind each answer stands what it was; so a sender that is killed anywhere has neither lost a report nor sent one again whose answer was noted.

use crate::fail_spots;
use crate::heap::{List, PutText, Text, owned};
use crate::hooks::Hooks;
use crate::launch::LaunchRecord;
use crate::limits;
use crate::metadata::{Delivery, ReadBack, Tries, read_back, with_delivery};
use crate::report_id::{compact_time, readable_time};
use crate::store::{Report, Store};
use crate::sys::process;
use crate::text::{joined, push_number};
use crate::upload::{self, Outcome, Parcel};

/// What came of a report's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// A server has it.
    Accepted,
    /// It waits, and so does everything behind it: for the server, for a limit, for a consent.
    Waits,
    /// A server refused it.
    Refused,
    /// There was nothing to send of it, or not yet.
    Nothing,
}

/// What stands in a report while it is sent.
pub(crate) const UNDER_WAY: &str = "it is being sent";

/// One guard's way of sending.
pub(crate) struct Sender<'a> {
    pub(crate) record: &'a LaunchRecord,
    pub(crate) store: &'a Store,
    pub(crate) hooks: Hooks,
    pub(crate) deadline_ns: u64,
}

impl Sender<'_> {
    /// Whether anything may be sent at all.
    pub(crate) fn is_allowed(&self) -> bool {
        self.record.collector.is_some() && self.store.may_send()
    }

    /// Sends what waits in the store, oldest first, until a server or a limit wants a rest. What a killed guard had left is made durable even then, and without a consent.
    pub(crate) fn send_waiting(&self, mut may_send: bool) {
        may_send &= self.is_allowed();
        for waiting in &self.store.waiting() {
            if let Some(mut report) = self.store.adopt(*waiting)
                && (may_send || report.is_new())
            {
                may_send &= self.send(&mut report, may_send) != Sent::Waits;
            }
        }
    }

    /// The same beside a guard, unless somebody does it already for the same store.
    pub(crate) fn send_beside(&self) {
        if let Some(_lock) = self.store.lock_for_sending() {
            self.send_waiting(true);
        }
    }

    /// Sends one report, whoever wrote it, and notes in its metadata what came of it.
    pub(crate) fn send(&self, report: &mut Report, may_send: bool) -> Sent {
        crate::heap::with_frame_pointer();
        let store = self.store;
        if store.make_durable(report).is_err() {
            return Sent::Nothing;
        }
        if !may_send || self.left_ms() == 0 {
            return Sent::Waits;
        }
        let Some(json) = store.read_metadata(report) else {
            // What can't be read just now may be next time.
            if !store.has_metadata(report) {
                store.set_aside(report);
            }
            return Sent::Nothing;
        };
        let Some(mut back) = read_back(&json) else {
            store.set_aside(report);
            return Sent::Nothing;
        };
        let now_ns = process::real_ns();
        let now_s = now_ns / 1_000_000_000;
        let oldest = compact_time(now_ns.saturating_sub(limits::SENDING_AGE_S_MAX * 1_000_000_000));
        let tries = &mut back.tries;
        if let Some(same_crash) = self.hooks.same_crash {
            tries.repeats = (same_crash.repeats)(store, report);
        }
        if !back.is_pending {
            // Whoever noted how it ended was ended itself before it was done.
            let _ = store.complete(report);
            return Sent::Nothing;
        }
        if !self.is_allowed() {
            return Sent::Nothing;
        }
        let end = if tries.count >= limits::TRIES_MAX {
            Some("it was tried often enough")
        } else if report.name() < oldest.as_str() {
            Some("it is too old to be sent")
        } else {
            None
        };
        if let Some(reason) = end {
            note(store, report, &json, Delivery::Skipped(reason), tries);
            let _ = store.complete(report);
            return Sent::Nothing;
        }
        // A moment that no server can have asked for is one from before the clock was set back.
        if now_s < tries.next_s && tries.next_s <= now_s.saturating_add(limits::RETRY_AFTER_S_MAX) {
            return Sent::Nothing;
        }
        if let Some(reason) = store.take_turn(now_s) {
            note(store, report, &json, Delivery::Pending(reason), tries);
            return Sent::Waits;
        }
        tries.count += 1;
        if !note(store, report, &json, Delivery::Pending(UNDER_WAY), tries) {
            // What isn't counted would be sent without end.
            return Sent::Waits;
        }
        self.deliver(report, &mut back, &json, &|_, _| store.may_send(), false).0
    }

    /// Posts a report whose try is counted, and notes what came of it; also in words. Of one that `is_done` otherwise no guard makes another try, and that isn't noted either.
    #[inline(always)]
    pub(crate) fn deliver(
        &self,
        report: &mut Report,
        back: &mut ReadBack,
        json: &[u8],
        may_send: &dyn Fn(usize, usize) -> bool,
        is_done: bool,
    ) -> (Sent, Text) {
        let store = self.store;
        let now_ns = process::real_ns();
        let now_s = now_ns / 1_000_000_000;
        fail_spots::pass("delivery-begun");
        let outcome = self.post(report, back, json, may_send);
        fail_spots::pass("delivery-answered");
        let tries = &mut back.tries;
        let waiting;
        let (delivery, sent) = match &outcome {
            Outcome::Accepted { status, answer } => {
                let delivery = match answer.strip_prefix("Discarded=") {
                    Some(_) => Delivery::Discarded { status: *status, answer },
                    None => Delivery::Uploaded { status: *status, answer },
                };
                (delivery, Sent::Accepted)
            }
            Outcome::Refused { status, answer } => {
                (Delivery::Refused { status: *status, answer }, Sent::Refused)
            }
            Outcome::Retry { reason, after_s } => {
                let backoff_s =
                    self.record.reporting.retry_s << tries.count.saturating_sub(1).min(16);
                let wait_s = after_s.unwrap_or(0).max(backoff_s).min(limits::RETRY_AFTER_S_MAX);
                tries.next_s = now_s.saturating_add(wait_s);
                if let Some(after_s) = after_s {
                    store.leave_alone(now_s.saturating_add(*after_s));
                }
                waiting = with_wait(reason, *after_s);
                let left = match is_done {
                    true => Delivery::Skipped(&waiting),
                    false => Delivery::Pending(&waiting),
                };
                (left, Sent::Waits)
            }
        };
        let words = delivery.in_words();
        tries.add(&joined(&[&readable_time(now_ns), " ", &words]));
        note(store, report, json, delivery, tries);
        fail_spots::pass("delivery-noted");
        if sent != Sent::Waits {
            let _ = store.complete(report);
            fail_spots::pass("delivery-completed");
        }
        (sent, words)
    }

    fn post(
        &self,
        report: &Report,
        back: &ReadBack,
        json: &[u8],
        may_send: &dyn Fn(usize, usize) -> bool,
    ) -> Outcome {
        let dump = self.store.read_dump(report);
        let attachments = match self.hooks.attach {
            Some(attach) => (attach.stored)(self.store, report),
            None => List::new(),
        };
        let outcome = upload::deliver(&Parcel {
            url: self.record.collector.as_deref().unwrap_or_default(),
            product: &back.application,
            version: &back.version,
            uuid: report.uuid,
            installation: &self.store.installation_id(),
            process_type: back.role(),
            fields: &back.annotations,
            dump: dump.as_deref(),
            metadata: json,
            attachments: &attachments,
            certificates: &self.record.certificates,
            hooks: self.hooks,
            may_send,
            deadline_ns: self.deadline_ns,
        });
        if let Some(dump) = dump {
            dump.give_back();
        }
        for (_, content) in attachments {
            content.give_back();
        }
        outcome
    }

    fn left_ms(&self) -> u64 {
        self.deadline_ns.saturating_sub(process::monotonic_ns()) / 1_000_000
    }
}

/// Writes what is known of a report's delivery into its metadata.
pub(crate) fn note(
    store: &Store,
    report: &Report,
    json: &[u8],
    delivery: Delivery<'_>,
    tries: &Tries,
) -> bool {
    let json = with_delivery(json, delivery, tries);
    json.is_some_and(|json| store.update(report, &json).is_ok())
}

fn with_wait(reason: &str, after_s: Option<u64>) -> Text {
    let mut text = owned(reason);
    if let Some(seconds) = after_s {
        text.put("; it wants to be left alone for ");
        push_number(&mut text, seconds);
        text.put(" s");
    }
    text
}
