//! One file of manifests: its documents, what is wrong with them, and the last good versions that stay in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::last_good::{Kept, LastGood, Record};
use super::stamp::{Patience, Stamp};
use super::text::text;
use crate::code::Code;
use crate::document::{self, Piece};
use crate::fault::{Effect, Fault, Severity};
use crate::meta::{ObjectRef, Order};
use crate::object::{InvalidObject, Object};
use crate::read::{self, Item, Outcome, Place};

/// How many looks in a row a file may be left for the next one: a file that is written without end is read all the same.
const MAX_DEFERRALS: u8 = 40;

/// One file.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    place: Place,
    stamp: Option<Stamp>,
    deferrals: u8,
    pieces: Vec<ReadPiece>,
    good: BTreeMap<ObjectRef, Good>,
    saved: Option<Record>,
    /// What the file says, in the order written.
    pub(super) entries: Vec<Entry>,
    /// What is wrong with it, but for the entries that are [`State::Invalid`].
    pub(super) faults: Vec<Fault>,
}

/// One object of a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) line: u32,
    pub(super) object: ObjectRef,
    pub(super) state: State,
}

/// What a file says of an object.
#[derive(Clone, Debug)]
pub(super) enum State {
    Valid(Arc<Object>),
    Tombstone,
    Invalid(Arc<InvalidObject>),
}

/// A document that was read.
#[derive(Clone, Debug)]
struct ReadPiece {
    text: Arc<str>,
    line: u32,
    index: u32,
    items: Vec<Item>,
}

/// A last good version and the document it came from.
#[derive(Clone, Debug)]
struct Good {
    line: u32,
    object: Arc<Object>,
    origin: Arc<Origin>,
}

/// A document's text and place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    index: u32,
    line: u32,
    text: Arc<str>,
}

impl File {
    pub(super) fn new(path: &Path, rank: u64, last_good: Option<&LastGood>) -> Self {
        let name: Arc<str> = path.file_name().unwrap_or_default().to_string_lossy().into();
        let place =
            Place { file: path.to_string_lossy().into(), order: Order { rank, file: name, index: 0 } };
        let saved = last_good.and_then(|last_good| last_good.load(path));
        let good = BTreeMap::new();
        Self {
            path: path.to_owned(),
            place,
            stamp: None,
            deferrals: 0,
            pieces: Vec::new(),
            good,
            saved,
            entries: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Looks at the file and reads it again if it may have changed. Tells whether it must be looked at again soon.
    pub(super) fn refresh(&mut self, last_good: Option<&LastGood>, patience: Patience) -> bool {
        let stamp = self.look();
        if let (Some(old), Some(now)) = (&self.stamp, &stamp)
            && old.is_still(now)
        {
            return false;
        }
        let settling = stamp.as_ref().is_some_and(Stamp::is_settling);
        let read = text(&self.path);
        // A file that is written while it is read is as unsettled as one that was written just now.
        let moved = stamp.as_ref().zip(self.look().as_ref()).is_some_and(|(then, now)| !then.is_same(now));
        if patience == Patience::Settled && (settling || moved) && self.deferrals < MAX_DEFERRALS {
            self.deferrals += 1;
            return true;
        }
        self.deferrals = 0;
        let first = self.stamp.is_none();
        self.stamp = stamp;
        if first {
            self.recall();
        }
        self.entries.clear();
        self.faults.clear();
        match read {
            Ok(text) => self.take(&text),
            Err((message, mend)) => self.keep_all(message, mend),
        }
        if let Some(last_good) = last_good {
            self.save(last_good);
        }
        false
    }

    /// The file as shown to people.
    pub(super) fn name(&self) -> Arc<str> {
        self.place.file.clone()
    }

    /// What it says, each with its document's text and first line, and its place where that is a list; but for last good
    /// versions of what no longer stands in it.
    pub(super) fn written(&self) -> impl Iterator<Item = (&Entry, Arc<str>, u32, usize)> {
        let identified = self.pieces.iter().flat_map(|piece| {
            let items = piece.items.iter().enumerate();
            let named = items.filter(|(_, item)| item.outcome.object().is_some());
            named.map(move |(place, item)| (piece, place, item))
        });
        let both = self.entries.iter().zip(identified);
        let same = both.filter(|(entry, (.., item))| item.outcome.object().as_ref() == Some(&entry.object));
        same.map(|(entry, (piece, place, _))| (entry, piece.text.clone(), piece.line, place))
    }

    fn look(&self) -> Option<Stamp> {
        fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata))
    }

    /// Brings back what was good before a restart, when the file or its folder cannot be read.
    pub(super) fn revive(&mut self) {
        self.recall();
        self.entries = self.good.iter().map(|(object, good)| good.entry(object)).collect();
    }

    /// Reads the saved record; texts that are unchanged are taken over as they were parsed.
    fn recall(&mut self) {
        let Some(record) = self.saved.clone() else { return };
        for kept in record.kept {
            let mut place = self.place.clone();
            place.order.index = kept.index;
            let text: Arc<str> = kept.text.into();
            let origin = Arc::new(Origin { index: kept.index, line: kept.line, text: text.clone() });
            let items = read::read(Piece { text: &text, line: kept.line }, &place);
            for item in &items {
                if let Outcome::Valid(object) = &item.outcome
                    && kept.objects.contains(&object.reference())
                {
                    let good = Good { line: item.line, object: object.clone(), origin: origin.clone() };
                    self.good.insert(object.reference(), good);
                }
            }
            self.pieces.push(ReadPiece { text, line: kept.line, index: kept.index, items });
        }
    }

    fn take(&mut self, text: &str) {
        let pieces = match document::split(text) {
            Ok(pieces) => pieces,
            Err(error) => return self.keep_all(error.to_string(), "split the file"),
        };
        let mut known: BTreeMap<(u32, u32), ReadPiece> =
            self.pieces.drain(..).map(|piece| ((piece.line, piece.index), piece)).collect();
        let mut index = 0;
        for piece in pieces {
            let old = known.remove(&(piece.line, index)).filter(|old| *old.text == *piece.text);
            let read = old.unwrap_or_else(|| self.read(piece, index));
            index += u32::try_from(read.items.len().max(1)).unwrap_or(u32::MAX);
            self.pieces.push(read);
        }
        self.settle();
    }

    fn read(&self, piece: Piece<'_>, index: u32) -> ReadPiece {
        let mut place = self.place.clone();
        place.order.index = index;
        let items = read::read(piece, &place);
        ReadPiece { text: piece.text.into(), line: piece.line, index, items }
    }

    /// Decides what each document says, with last good versions for what is wrong.
    fn settle(&mut self) {
        let before = std::mem::take(&mut self.good);
        let mut seen: BTreeSet<ObjectRef> = BTreeSet::new();
        let mut unidentified = Vec::new();
        for read in &self.pieces {
            let origin = Arc::new(Origin { index: read.index, line: read.line, text: read.text.clone() });
            for item in &read.items {
                self.faults.extend(item.note.clone());
                let (object, state) = match &item.outcome {
                    Outcome::Skipped => continue,
                    Outcome::Unidentified(fault) => {
                        unidentified.push((**fault).clone());
                        continue;
                    }
                    Outcome::Valid(object) => (object.reference(), State::Valid(object.clone())),
                    Outcome::Tombstone(object) => (object.clone(), State::Tombstone),
                    Outcome::Bad(invalid) => {
                        (invalid.object.clone(), State::Invalid(Arc::new((**invalid).clone())))
                    }
                };
                let first = seen.insert(object.clone());
                let mut entry = Entry { line: item.line, object: object.clone(), state };
                match &entry.state {
                    State::Valid(valid) if first => {
                        let good = Good { line: item.line, object: valid.clone(), origin: origin.clone() };
                        self.good.insert(object, good);
                    }
                    State::Invalid(invalid) if first => {
                        if let Some(good) = before.get(&object) {
                            self.faults.push(with_effect(&invalid.fault, Effect::LastGoodStays));
                            entry.state = State::Valid(good.object.clone());
                            self.good.insert(object, good.clone());
                        }
                    }
                    _ => {}
                }
                self.entries.push(entry);
            }
        }
        self.keep_unseen(unidentified, &seen, before);
    }

    /// A document that does not say which object it is may be any that is no longer found: they all stay.
    fn keep_unseen(
        &mut self,
        faults: Vec<Fault>,
        seen: &BTreeSet<ObjectRef>,
        before: BTreeMap<ObjectRef, Good>,
    ) {
        if faults.is_empty() {
            return;
        }
        let mut effect = Effect::Skipped;
        for (object, good) in before {
            if !seen.contains(&object) {
                effect = Effect::LastGoodStays;
                self.entries.push(good.entry(&object));
                self.good.insert(object, good);
            }
        }
        self.faults.extend(faults.iter().map(|fault| with_effect(fault, effect)));
    }

    fn keep_all(&mut self, message: String, mend: &str) {
        self.entries = self.good.iter().map(|(object, good)| good.entry(object)).collect();
        self.pieces.clear();
        let effect = if self.good.is_empty() { Effect::Skipped } else { Effect::LastGoodStays };
        self.faults.push(Fault {
            code: Code::FileUnreadable,
            file: self.place.file.to_string(),
            line: 0,
            object: None,
            field: None,
            message,
            mend: mend.to_owned(),
            effect,
            severity: Severity::Error,
        });
    }

    fn save(&mut self, last_good: &LastGood) {
        let mut kept: BTreeMap<&Origin, Vec<ObjectRef>> = BTreeMap::new();
        for (object, good) in &self.good {
            kept.entry(&good.origin).or_default().push(object.clone());
        }
        let kept = kept.into_iter().map(|(origin, objects)| Kept {
            line: origin.line,
            index: origin.index,
            text: origin.text.to_string(),
            objects,
        });
        let record = Record { path: self.path.clone(), kept: kept.collect() };
        if self.saved.as_ref() == Some(&record) {
            return;
        }
        match last_good.save(&record) {
            Ok(()) => self.saved = Some(record),
            Err(error) => self.faults.push(Fault {
                code: Code::LastGoodNotKept,
                file: self.place.file.to_string(),
                line: 0,
                object: None,
                field: None,
                message: format!("its last good version cannot be kept for a restart: {error}"),
                mend: "make room or give write permission in the state folder".to_owned(),
                effect: Effect::None,
                severity: Severity::Warning,
            }),
        }
    }
}

impl Good {
    fn entry(&self, object: &ObjectRef) -> Entry {
        Entry { line: self.line, object: object.clone(), state: State::Valid(self.object.clone()) }
    }
}

/// A fault with its effect.
pub(super) fn with_effect(fault: &Fault, effect: Effect) -> Fault {
    Fault { effect, ..fault.clone() }
}
