//! What servers that share a database tell each other of: which rows a change of one of them has touched, so that the
//! others forget what they keep of these.
//!
//! A notice is one line of text. Postgres carries it with NOTIFY, in the transaction of the change; SQLite in a table. A
//! server ignores the notices of its own writes: whoever writes knows what becomes of its own rows. It does so only while
//! that holds. A write whose caller has gone, or that got no answer, may yet be done, and its notice is then like another
//! server's.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::{
    catalog::FeatureView,
    features::{EntityKey, RowCache, put_key, put_part, take_part},
};

/// The form of a notice; a server that does not know it forgets everything.
const FORM: &str = "1";

/// Postgres takes less than 8,000 bytes.
const NOTICE_BYTES_MAX: usize = 7_900;

/// Own writes whose notices are awaited, at the most; beyond, they count as another server's.
const AWAITED_MAX: usize = 65_536;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Touched {
    /// Some rows of a view; their keys, each with its length in front.
    Keys { view: String, keys: Vec<u8> },
    /// A view.
    View(String),
    /// Anything.
    All,
}

/// What came of a write of this server whose notice is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnWrite {
    /// It has not ended yet.
    Runs,
    /// Its notice came before its end.
    IsTold,
    /// It has ended as its caller knows.
    IsDone,
}

/// This server among those that share a database.
pub(super) struct Notices {
    /// Whose notices are our own.
    server: String,
    next_write: AtomicU64,
    is_followed: AtomicBool,
    own: Mutex<HashMap<u64, OwnWrite>>,
}

/// A write of this server. Dropped before it has settled, it counts as another server's.
pub(super) struct Writing<'a> {
    notices: &'a Notices,
    number: u64,
}

impl Default for Notices {
    fn default() -> Self {
        Notices {
            server: format!("{:016x}", fastrand::u64(..)),
            next_write: AtomicU64::new(1),
            is_followed: AtomicBool::new(false),
            own: Mutex::default(),
        }
    }
}

impl Notices {
    /// From here on notices are listened to. What was awaited until now may have been missed.
    pub(super) fn follow(&self) {
        self.is_followed.store(true, Ordering::Relaxed);
        self.lock().retain(|_, own| *own == OwnWrite::Runs);
    }

    /// Begins a write of some keys; with the notice that has to go with it.
    pub(super) fn write<'a>(
        &self,
        view: &FeatureView,
        keys: impl Iterator<Item = &'a EntityKey>,
    ) -> (Writing<'_>, String) {
        let number = self.next_write.fetch_add(1, Ordering::Relaxed);
        if self.is_followed.load(Ordering::Relaxed) {
            let mut own = self.lock();
            if own.len() >= AWAITED_MAX {
                own.clear();
            }
            own.insert(number, OwnWrite::Runs);
        }
        let writing = Writing {
            notices: self,
            number,
        };
        (writing, self.notice(number, &keys_of(&view.name, keys)))
    }

    /// The notice of a change of some rows that every server has to heed, this one, too; without keys, of any.
    pub(super) fn of(&self, view: &FeatureView, keys: Option<&[EntityKey]>) -> String {
        match keys {
            Some(keys) => self.notice(0, &keys_of(&view.name, keys.iter())),
            None => self.notice(0, &Touched::View(view.name.clone())),
        }
    }

    fn notice(&self, number: u64, touched: &Touched) -> String {
        let server = &self.server;
        match touched {
            Touched::Keys { view, keys } => {
                let keys = STANDARD_NO_PAD.encode(keys);
                let notice = format!("{FORM} {server} {number} keys {view} {keys}");
                if notice.len() <= NOTICE_BYTES_MAX {
                    return notice;
                }
                format!("{FORM} {server} {number} view {view}")
            }
            Touched::View(view) => format!("{FORM} {server} {number} view {view}"),
            Touched::All => format!("{FORM} {server} {number} all"),
        }
    }

    /// Forgets what a notice speaks of.
    pub(super) fn heed(&self, notice: &str, cache: &RowCache) {
        let (number, touched) = self.understand(notice);
        if number.is_some_and(|number| self.is_own(number)) {
            return;
        }
        match touched {
            Touched::Keys { view, keys } => {
                let mut rest = keys.as_slice();
                cache.forget_keys(&view, std::iter::from_fn(|| take_part(&mut rest)));
                if !rest.is_empty() {
                    cache.forget_all();
                }
            }
            Touched::View(view) => cache.forget_view(&view),
            Touched::All => cache.forget_all(),
        }
    }

    /// The number of a write of our own, and what a notice speaks of: anything, where it makes no sense.
    fn understand(&self, notice: &str) -> (Option<u64>, Touched) {
        let mut words = notice.split(' ');
        let (form, server) = (words.next(), words.next());
        let number = words.next().and_then(|number| number.parse().ok());
        if form != Some(FORM) {
            return (None, Touched::All);
        }
        let touched = match (words.next(), words.next(), words.next()) {
            (Some("keys"), Some(view), Some(keys)) => {
                let view = view.to_owned();
                let keys = STANDARD_NO_PAD.decode(keys);
                keys.map_or(Touched::All, |keys| Touched::Keys { view, keys })
            }
            (Some("view"), Some(view), None) => Touched::View(view.to_owned()),
            _ => Touched::All,
        };
        let is_ours = server == Some(self.server.as_str());
        (number.filter(|_| is_ours), touched)
    }

    /// Whether a write of ours is one whose end its caller sees to.
    fn is_own(&self, number: u64) -> bool {
        let mut own = self.lock();
        match own.get(&number) {
            Some(OwnWrite::Runs) => {
                own.insert(number, OwnWrite::IsTold);
                true
            }
            Some(OwnWrite::IsDone) => own.remove(&number).is_some(),
            Some(OwnWrite::IsTold) => true,
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, OwnWrite>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing<'_> {
    /// The write is done, and its caller knows.
    pub(super) fn settle(self) {
        let mut own = self.notices.lock();
        if own.get(&self.number) == Some(&OwnWrite::Runs) {
            own.insert(self.number, OwnWrite::IsDone);
        }
        // What was told already is dropped with `self`.
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut own = self.notices.lock();
        if own.get(&self.number) != Some(&OwnWrite::IsDone) {
            own.remove(&self.number);
        }
    }
}

fn keys_of<'a>(view: &str, keys: impl Iterator<Item = &'a EntityKey>) -> Touched {
    let mut all = Vec::new();
    let mut bytes = Vec::new();
    for key in keys {
        bytes.clear();
        put_key(key, &mut bytes);
        put_part(&bytes, &mut all);
        if all.len() > NOTICE_BYTES_MAX {
            return Touched::View(view.to_owned());
        }
    }
    Touched::Keys {
        view: view.to_owned(),
        keys: all,
    }
}

/// A cache that follows the changes of a store, and how it is told.
pub(super) struct Follower {
    /// Who are we, and what of our own is awaited.
    pub(super) notices: Arc<Notices>,
    /// What forgets.
    pub(super) cache: Arc<RowCache>,
}

impl Follower {
    /// Notices can be missed no more; those from before may have been.
    pub(super) fn begin(&self) {
        self.notices.follow();
        self.cache.forget_all();
    }

    /// Forgets what a notice speaks of.
    pub(super) fn heed(&self, notice: &str) {
        self.notices.heed(notice, &self.cache);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{catalog::Definitions, features::Value};

    fn key(name: &str) -> EntityKey {
        EntityKey::new(vec![Value::String(name.into())]).unwrap()
    }

    fn of(name: &str) -> FeatureView {
        let text = format!(
            r#"
            project = "demo"
            [[entities]]
            name = "loan"
            join_keys = [{{ name = "loan_id", type = "string" }}]
            [[feature_views]]
            name = "{name}"
            entity = "loan"
            features = [{{ name = "x", type = "double" }}]
            "#
        );
        let definitions = Definitions::parse(&text).unwrap();
        FeatureView::clone(definitions.views.first().unwrap())
    }

    fn names(touched: &Touched) -> Vec<String> {
        let Touched::Keys { keys, .. } = touched else {
            return Vec::new();
        };
        let mut rest = keys.as_slice();
        let parts = std::iter::from_fn(|| take_part(&mut rest));
        // A key of one text is that with its length in front.
        let text =
            |mut part: &[u8]| String::from_utf8(take_part(&mut part).unwrap().to_vec()).unwrap();
        parts.map(text).collect()
    }

    #[test]
    fn a_notice_is_understood_by_others() {
        let (ours, theirs) = (Notices::default(), Notices::default());
        let keys = [key("a"), key("it's")];
        let (_writing, notice) = ours.write(&of("applicant"), keys.iter());
        let (own, touched) = theirs.understand(&notice);
        assert_eq!(own, None);
        assert_eq!(names(&touched), ["a", "it's"]);
        assert!(!notice.contains('\''), "{notice}");
        let view = Touched::View("applicant".to_owned());
        let (_, touched) = theirs.understand(&ours.of(&of("applicant"), None));
        assert_eq!(touched, view);
        // More keys than a notice holds.
        let many: Vec<EntityKey> = (0..2_000).map(|n| key(&format!("loan-{n}"))).collect();
        let notice = ours.of(&of("applicant"), Some(&many));
        assert!(notice.len() < 8_000);
        assert_eq!(theirs.understand(&notice).1, view);
    }

    #[test]
    fn what_makes_no_sense_touches_everything() {
        let notices = Notices::default();
        for notice in [
            "",
            "2 x 1 keys v AA",
            "1 x 1 keys v %",
            "1 x 1 keys v",
            "1 x 1 drop v",
        ] {
            assert_eq!(notices.understand(notice).1, Touched::All, "{notice}");
        }
    }

    #[test]
    fn only_a_write_that_its_caller_saw_end_is_our_own() {
        let notices = Notices::default();
        notices.follow();
        let keys = [key("a")];
        let number = |notice: &str| notices.understand(notice).0.unwrap();
        // Told before its end, and after it.
        let (writing, notice) = notices.write(&of("v"), keys.iter());
        assert!(notices.is_own(number(&notice)));
        writing.settle();
        let (writing, notice) = notices.write(&of("v"), keys.iter());
        writing.settle();
        assert!(notices.is_own(number(&notice)));
        assert!(!notices.is_own(number(&notice)));
        // Given up: it may be done after all.
        let (writing, notice) = notices.write(&of("v"), keys.iter());
        drop(writing);
        assert!(!notices.is_own(number(&notice)));
        assert!(notices.lock().is_empty());
    }
}
