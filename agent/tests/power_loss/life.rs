//! An agent's life in chapters, from its enrolment on: what comes with the mail, what the agent is started for,
//! and what must hold at the end, however often the power went in between.

use shared::limits::FORMER_OPENING_KEY_LIFE;
use shared::message::{Enrolled, FileState, Order, Outcome, Report, Reported, Step, VersionReport};
use shared::{AgentId, EnvelopeId, SoftwareVersion};
use tempfile::TempDir;

use crate::common::{AGENT, World, noise, text};
use crate::strace::{self, Call};
use crate::tree::Tree;

/// Kills the agent that runs it in its `post` phase, once.
const KILLS_ONCE: &str = "[ $1 = post ] && [ ! -e $MAILFLEET_ROOT/../killed ] && : > $MAILFLEET_ROOT/../killed \
                          && kill -KILL $PPID; exit 0";

/// One chapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Title {
    /// The invitation is used.
    Enrols,
    /// The manager answers.
    IsAccepted,
    /// Modules come to an empty root.
    InstallsFirst,
    /// Modules are replaced and new ones come into new folders, between two version queries.
    Updates,
    /// The same, but the script does not like the result.
    RollsBack,
    /// The script kills the agent, which goes on at its second start.
    IsInterrupted,
    /// The manager asks for new keys.
    MakesKeys,
    /// The manager seals to them.
    UsesKeys,
    /// Nothing that was sealed to the old ones can be on its way any more.
    DropsKeys,
}

impl Title {
    pub const ALL: [Self; 9] = [
        Self::Enrols,
        Self::IsAccepted,
        Self::InstallsFirst,
        Self::Updates,
        Self::RollsBack,
        Self::IsInterrupted,
        Self::MakesKeys,
        Self::UsesKeys,
        Self::DropsKeys,
    ];

    /// How often the agent is started for it.
    fn starts(self) -> usize {
        if self == Self::IsInterrupted { 2 } else { 1 }
    }

    /// The version that is there before and after it.
    fn versions(self) -> [Reported; 2] {
        let exact = |version| Reported::Exact(SoftwareVersion::parse(version).unwrap());
        match self {
            Self::Enrols | Self::IsAccepted => [Reported::Nothing, Reported::Nothing],
            Self::InstallsFirst => [Reported::Nothing, exact("1-0")],
            Self::Updates => [exact("1-0"), exact("2-0")],
            Self::RollsBack => [exact("2-0"), exact("2-0")],
            Self::IsInterrupted => [exact("2-0"), exact("4-0")],
            Self::MakesKeys | Self::UsesKeys | Self::DropsKeys => [exact("4-0"), exact("4-0")],
        }
    }
}

/// A chapter as it went: the world before it, and every call that the agent made.
pub struct Chapter {
    pub title: Title,
    /// The world before it, with its mail delivered; its folder is empty.
    start: World,
    pub before: Tree,
    pub starts: Vec<Start>,
    orders: Vec<EnvelopeId>,
    queries: Vec<EnvelopeId>,
    /// The root's content at its end.
    after: Tree,
}

/// One start of the agent.
pub struct Start {
    /// All files before it.
    pub begin: Tree,
    pub calls: Vec<Call>,
    /// All files after it.
    pub end: Tree,
}

/// Records an agent's whole life, and gives the world in which it took place.
pub fn record() -> (World, Vec<Chapter>) {
    strace::require();
    let mut world = World::new();
    world.folder = folder();
    let chapters = Title::ALL.into_iter().map(|title| record_chapter(title, &mut world)).collect();
    (world, chapters)
}

fn record_chapter(title: Title, world: &mut World) -> Chapter {
    world.reports.clear();
    let (orders, queries) = deliver(title, world);
    let (start, before) = (world.twin(folder()), Tree::read(world.folder.path()));
    let mut starts = vec![];
    for _ in 0..title.starts() {
        let command = command(world);
        let begin = Tree::read(world.folder.path());
        let (out, calls) = strace::record(&command, world.folder.path());
        assert!(!calls.is_empty(), "strace has recorded nothing: {}", text(&out));
        starts.push(Start { begin, calls, end: Tree::read(world.folder.path()) });
    }
    let after = root(world);
    let chapter = Chapter { title, start, before, starts, orders, queries, after };
    // The life without an accident keeps the same rules.
    chapter.check(world);
    chapter
}

/// What comes with the mail.
fn deliver(title: Title, w: &mut World) -> (Vec<EnvelopeId>, Vec<EnvelopeId>) {
    let (big, bigger) = (noise(100_000), noise(150_000));
    match title {
        Title::Enrols => (vec![], vec![]),
        Title::IsAccepted => {
            accept(w);
            (vec![], vec![w.query()])
        }
        Title::InstallsFirst => {
            let files = [("bin/abcd", "one"), ("lib/big", &big), ("lib/deep/stays", "one")];
            (vec![w.install("1-0", None, &files)], vec![w.query()])
        }
        Title::Updates => {
            let first = w.query();
            // Somebody has made a folder and has not synced it, as a script's `mkdir` does.
            std::fs::create_dir_all(w.root().join("by/hand")).unwrap();
            let files = [
                ("bin/abcd", "two"),
                ("by/hand/made", "two"),
                ("lib/big", &bigger),
                ("new/deep/x", "two"),
                ("new/y", "two"),
            ];
            (vec![w.install("2-0", Some("exit 0"), &files)], vec![first, w.query()])
        }
        Title::RollsBack => {
            let files = [("bin/abcd", "three"), ("new/y", "three"), ("other/z", "three"), ("top", "three")];
            (vec![w.install("3-0", Some("[ $1 = verify ] && exit 1; exit 0"), &files)], vec![w.query()])
        }
        Title::IsInterrupted => {
            let files = [("bin/abcd", "four"), ("other/z", "four")];
            (vec![w.install("4-0", Some(KILLS_ONCE), &files)], vec![w.query()])
        }
        Title::MakesKeys => {
            w.send(&Order::Rekey);
            (vec![], vec![w.query()])
        }
        Title::UsesKeys => (vec![], vec![w.query()]),
        Title::DropsKeys => {
            let mut life = w.life();
            life.created = life.created.plus(FORMER_OPENING_KEY_LIFE * 2);
            life.expires = life.expires.plus(FORMER_OPENING_KEY_LIFE * 2);
            (vec![], vec![w.send_with(life, &Order::QueryVersions, &[])])
        }
    }
}

pub fn accept(w: &mut World) {
    w.send(&Order::Enrolled(Enrolled { agent: AgentId::parse(AGENT).unwrap(), heartbeat: None }));
}

/// What a person or the box's init system starts now.
pub fn command(w: &World) -> std::process::Command {
    if w.home().join("state").exists() {
        w.command(&["run", "--once"])
    } else {
        w.enrol_command(&w.invitation())
    }
}

pub fn root(w: &World) -> Tree {
    Tree::read(&w.root()).without(".mailfleet")
}

impl Chapter {
    /// The world as this tree, which was taken from below `origin`, has it.
    pub fn world(&self, tree: &Tree, origin: &World) -> World {
        let twin = self.start.twin(folder());
        tree.write(twin.folder.path(), origin.folder.path());
        twin
    }

    /// The power is back: the agent is started until it has nothing left to do; then everything is looked at.
    pub fn finish(&self, w: &mut World) {
        // A script that kills the agent makes it start once more.
        for start in 1.. {
            assert!(start < 4, "the agent is killed each time");
            let out = command(w).output().unwrap();
            let said = text(&out);
            assert!(!said.contains("damaged"), "{said}");
            match out.status.code() {
                Some(0) => break,
                Some(1) if self.title == Title::RollsBack => break,
                None if self.title == Title::IsInterrupted => {}
                _ => panic!("{said}"),
            }
        }
        self.check(w);
        if self.title == Title::Enrols {
            accept(w);
            let query = w.query();
            assert_eq!(w.once(), 0);
            self.answered(w, query);
        }
    }

    /// What holds at the end.
    fn check(&self, w: &mut World) {
        w.collect();
        assert_eq!(w.unread(), 0, "mails are left");
        nothing_is_left(w);
        let root = root(w);
        assert!(root == self.after, "the files below the root:\n{}", root.difference(&self.after));
        let [_, after] = self.title.versions();
        for order in self.orders.clone() {
            let ended = w.ended(order);
            assert_eq!(ended.versions.software, after, "{ended:?}");
            all_good(&ended.versions);
            match self.title {
                Title::RollsBack => assert!(matches!(ended.outcome, Outcome::RolledBack(_)), "{ended:?}"),
                _ => assert_eq!(ended.outcome, Outcome::Installed),
            }
            let is_receipt = |r: &&Report| matches!(r, Report::Progress(p) if p.order == order && p.step == Step::Received);
            assert_eq!(w.reports.iter().filter(is_receipt).count(), 1, "{:?}", w.reports);
        }
        for query in self.queries.clone() {
            self.answered(w, query);
        }
        self.has_keys(w);
        let enrolments = w.reports.iter().filter(|r| matches!(r, Report::Enrol(_))).count();
        assert_eq!(enrolments, usize::from(self.title == Title::Enrols), "{:?}", w.reports);
    }

    /// The keys of which the manager knows are there, and no others but the old ones for their time.
    fn has_keys(&self, w: &World) {
        let keys = Tree::read(&w.home()).0.into_keys().filter(|name| name.ends_with(".sign")).count();
        let (files, replaced) = match self.title {
            Title::MakesKeys | Title::UsesKeys => (2, 1),
            Title::DropsKeys => (1, 1),
            _ => (1, 0),
        };
        assert_eq!((keys, w.former.len()), (files, replaced), "{:?}", w.reports);
        let says = |r: &&Report| matches!(r, Report::Rekeyed(_) | Report::Standing(_));
        let said = w.reports.iter().filter(says).count();
        let once = matches!(self.title, Title::MakesKeys | Title::UsesKeys);
        assert_eq!(said, usize::from(once), "{:?}", w.reports);
    }

    /// Exactly one answer, and a true one.
    fn answered(&self, w: &mut World, query: EnvelopeId) {
        let answers = w.answers(query);
        let [answer] = &answers[..] else { panic!("{} answers: {:?}", answers.len(), w.reports) };
        assert!(self.title.versions().contains(&answer.software), "{answer:?}");
        all_good(answer);
    }
}

pub fn all_good(versions: &VersionReport) {
    assert!(versions.modules.iter().all(|module| module.file == FileState::Good), "{versions:?}");
}

/// Whatever an install, a mail or a report needed on its way is gone.
pub fn nothing_is_left(w: &World) {
    for folder in ["home/incoming", "home/bundles", "home/outbox", "root/.mailfleet/jobs"] {
        let tree = Tree::read(&w.folder.path().join(folder));
        assert!(tree.0.is_empty(), "left in {folder}: {:?}", tree.0.keys());
    }
    let known = [
        "agent.toml",
        "bundles",
        "incoming",
        "key.open",
        "key.sign",
        "lock",
        "outbox",
        "state",
        "state.prev",
        "wishes",
    ];
    for name in Tree::read(&w.home()).0.keys() {
        let later = name.starts_with("key-") && (name.ends_with(".sign") || name.ends_with(".open"));
        assert!(later || known.contains(&name.as_str()), "left in the home: {name}");
    }
}

/// An empty folder, in memory if programs can be run there: these tests wait for thousands of `fsync`s.
pub fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let in_memory = || -> std::io::Result<TempDir> {
        let folder = tempfile::tempdir_in(std::fs::canonicalize("/dev/shm")?)?;
        let program = folder.path().join("program");
        std::fs::write(&program, "#!/bin/sh\n")?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700))?;
        std::process::Command::new(&program).status()?;
        std::fs::remove_file(program)?;
        Ok(folder)
    };
    in_memory().unwrap_or_else(|_| {
        tempfile::tempdir_in(std::fs::canonicalize(std::env::temp_dir()).unwrap()).unwrap()
    })
}
