//! Sends what a store holds because a person asks for it now: from any process, without a guard and without regard to the schedule.
//!
//! What is handled of a report's metadata stays in memory, some ten kilobytes for each, as everything that a guard makes.
//! What is sent, how it is locked and counted, and what an answer means, is what `delivery` does for guards too.

use core::cell::RefCell;
use core::time::Duration;
use std::sync::{Mutex, PoisonError};

use crate::delivery::{Sender, Sent, UNDER_WAY, note};
use crate::error::Error;
use crate::heap::{List, copied};
use crate::hooks::{ATTACH, Hooks, SAME_CRASH};
use crate::launch::LaunchRecord;
use crate::limits;
use crate::metadata::{Delivery, FORBIDDEN, delivery_state, read_back};
use crate::settings::Settings;
use crate::store::{Report, Stage, Store, uuid_of};
use crate::sys::process;

/// Which reports of a store are to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Which<'a> {
    /// All that wait, whenever their next try would be due.
    Waiting,
    /// That of this UUID, also where it was refused, skipped or tried often enough; but not one that a server has, and not one of a run in which the user had forbidden it.
    One(&'a str),
}

/// How far sending is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The UUID of the report that is being sent.
    pub id: &'a str,
    /// Its place among those to be sent, from 1 on, and how many these are.
    pub place: usize,
    /// See `place`.
    pub count: usize,
    /// Bytes of its request's body that the system has taken so far, and how many it has. Zero throughout where the `curl` program sends.
    pub sent_bytes: usize,
    /// See `sent_bytes`.
    pub whole_bytes: usize,
}

/// What came of one report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentReport {
    /// Its UUID.
    pub id: String,
    /// Whether a server has it now.
    pub is_delivered: bool,
    /// In a line for a person: the server's answer, or why there is none.
    pub outcome: String,
}

/// Sends what is chosen of the settings' store.
pub(crate) fn send_now(
    settings: &Settings,
    which: Which<'_>,
    wait_max: Duration,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Vec<SentReport>, Error> {
    const OPERATION: &str = "sending from the store";
    settings.check()?;
    let Some(collector) = &settings.collector else {
        return Err(Error::setting("collector", "there is none to send to"));
    };
    let path = settings.store_path();
    let path = path.ok_or_else(|| Error::setting("store", "there is no place for it"))?;
    // libcurl is initialised by its first use, which only newer ones do safely for several threads at once.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let reporting = settings.reporting();
    let refused = |reason| Error::refused(OPERATION, &path.display().to_string(), reason);
    let store = Store::at(path, &reporting).ok_or_else(|| refused("there is none"))?;
    if !store.may_send() {
        let reason =
            "its user hasn't agreed, has withdrawn the consent, or forbids it by a variable";
        return Err(refused(reason));
    }
    let record = LaunchRecord {
        collector: Some(collector.as_str().into()),
        certificates: copied(&settings.certificates),
        reporting,
        ..LaunchRecord::default()
    };
    let chosen = match which {
        Which::Waiting => store.waiting(),
        Which::One(uuid) => store.named(uuid),
    };
    if let Which::One(uuid) = which
        && chosen.is_empty()
    {
        return Err(Error::refused("sending the report", uuid, "the store has none of this id"));
    }
    // What lies with a report goes with it, whatever this builder gives to reports of its own.
    let hooks = Hooks { attach: Some(&ATTACH), same_crash: Some(&SAME_CRASH), ..settings.hooks };
    let wait_max = wait_max.min(Duration::from_secs(limits::SEND_NOW_S_MAX));
    let sending = Sending { store: &store, record: &record, hooks, wait_max };
    Ok(sending.all(&chosen, which, progress))
}

/// What is the same for all reports of one call.
struct Sending<'a> {
    store: &'a Store,
    record: &'a LaunchRecord,
    hooks: Hooks,
    wait_max: Duration,
}

impl Sending<'_> {
    /// Sends one after the other, until a server or the way to it wants a rest.
    fn all(
        &self,
        chosen: &List<(&'static str, Stage)>,
        which: Which<'_>,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Vec<SentReport> {
        let count = chosen.len();
        let progress = RefCell::new(progress);
        let mut is_over = false;
        let mut sent = Vec::new();
        for (index, (name, stage)) in chosen.into_iter().enumerate() {
            let id = uuid_of(name);
            let tell = |sent_bytes, whole_bytes| {
                // One that is told from within its own call isn't told again.
                if let Ok(mut progress) = progress.try_borrow_mut() {
                    progress(&Progress { id, place: index + 1, count, sent_bytes, whole_bytes });
                }
            };
            let (outcome, words) = if is_over {
                left("the one before found no server for it")
            } else {
                tell(0, 0);
                match self.adopt((name, *stage)) {
                    Ok(mut report) => send(&self.sender(), &mut report, which, &tell),
                    Err(reason) => left(reason),
                }
            };
            is_over |= outcome == Sent::Waits;
            sent.push(SentReport {
                id: id.to_owned(),
                is_delivered: outcome == Sent::Accepted,
                outcome: words,
            });
        }
        sent
    }

    /// For one report, whose time begins now.
    fn sender(&self) -> Sender<'_> {
        let wait_ns = u64::try_from(self.wait_max.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = process::monotonic_ns().saturating_add(wait_ns);
        Sender { record: self.record, store: self.store, hooks: self.hooks, deadline_ns }
    }

    /// Takes a report that was listed a while ago: a guard may have moved it on since.
    fn adopt(&self, (name, stage): (&'static str, Stage)) -> Result<Report, &'static str> {
        match self.store.take(name) {
            None => Err("it isn't there any more"),
            Some((report, _)) if report.stage() != stage => Err("a guard was faster"),
            Some((_, false)) => Err("another process has it in hand"),
            Some((report, true)) => Ok(report),
        }
    }
}

/// Sends one report, and says in words what came of it.
fn send(
    sender: &Sender<'_>,
    report: &mut Report,
    which: Which<'_>,
    tell: &dyn Fn(usize, usize),
) -> (Sent, String) {
    let store = sender.store;
    if store.make_durable(report).is_err() {
        return left("the disk doesn't take it");
    }
    let Some(json) = store.read_metadata(report) else {
        return left("its metadata can't be read");
    };
    let (Some(mut back), Some((state, reason))) = (read_back(&json), delivery_state(&json)) else {
        return left("its metadata are damaged");
    };
    if matches!(&*state, "uploaded" | "discarded") {
        return left("a server has it already");
    }
    if reason == FORBIDDEN {
        return left(FORBIDDEN);
    }
    if which == Which::Waiting && !back.is_pending {
        return left("it doesn't wait any more");
    }
    if let Some(same_crash) = sender.hooks.same_crash {
        back.tries.repeats = (same_crash.repeats)(store, report);
    }
    // Not counted: the tries are a guard's, and a person's must not use them up.
    // What lies with those that are done is never tried by a guard, and mustn't say that it waits.
    let is_done = report.stage() == Stage::Completed;
    let begun = if is_done { Delivery::Skipped(UNDER_WAY) } else { Delivery::Pending(UNDER_WAY) };
    if !note(store, report, &json, begun, &back.tries) {
        return left("its try can't be noted, so it isn't sent");
    }
    let may_send = |sent_bytes, whole_bytes| {
        tell(sent_bytes, whole_bytes);
        store.may_send()
    };
    let (sent, words) = sender.deliver(report, &mut back, &json, &may_send, is_done);
    (sent, words.into_string())
}

/// What isn't sent.
fn left(reason: &str) -> (Sent, String) {
    (Sent::Nothing, format!("not sent: {reason}"))
}
