//! The daemon killed at moments that nobody has chosen, for as long as it takes, while orders keep coming.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::message::{Cause, Failure, Outcome, Report, Reported};
use shared::{EnvelopeId, SoftwareVersion};

use crate::common::{World, text};
use crate::disk_model::Dice;
use crate::life::{accept, all_good, nothing_is_left, root};
use crate::tree::Node;

/// Orders that are on their way at most: fewer than an agent's queue takes.
const UNDER_WAY_MAX_COUNT: usize = 5;

/// The longest that a daemon lives: an install or two.
const LIFE_MAX_MS: u64 = 150;

/// A site whose box is switched off all the time.
pub struct Site {
    world: World,
    dice: Dice,
    /// Versions by order, as they were sent.
    installs: Vec<(EnvelopeId, u64)>,
    queries: Vec<EnvelopeId>,
    /// Kills that left an install half done.
    amid: usize,
}

/// What came of the orders.
#[derive(Default)]
pub struct Count {
    pub amid: usize,
    pub installed: usize,
    pub rolled_back: usize,
    pub interrupted: usize,
    pub answers: usize,
}

/// Whether a version's script fails.
fn fails(version: u64) -> bool {
    version % 4 == 3
}

/// A version's files: one that all have, one that only some have.
fn files(version: u64) -> [(String, String); 2] {
    [("bin/abcd".to_owned(), format!("{version}")), (format!("some/{}/x", version % 3), format!("{version}"))]
}

impl Site {
    /// A site with an enrolled agent.
    pub fn new(seed: u64, folder: tempfile::TempDir) -> Self {
        let mut world = World::new();
        world.folder = folder;
        let out = world.enrol(&world.invitation());
        assert!(out.status.success(), "{}", text(&out));
        world.collect();
        world.set_config("poll = \"20ms\"");
        accept(&mut world);
        Self { world, dice: Dice(seed), installs: vec![], queries: vec![], amid: 0 }
    }

    /// Starts the daemon and kills it, so many times.
    pub fn live(&mut self, kills: u64) {
        for _ in 0..kills {
            self.order();
            let log = std::fs::File::create(self.world.folder.path().join("daemon.log")).unwrap();
            let mut agent = self.world.command(&["run"]).stderr(log).spawn().unwrap();
            // Any moment will do; this one is not waited for.
            std::thread::sleep(Duration::from_millis(self.dice.below(LIFE_MAX_MS)));
            if let Some(status) = agent.try_wait().unwrap() {
                let said = std::fs::read_to_string(self.world.folder.path().join("daemon.log")).unwrap();
                panic!("the daemon has ended by itself: {status}\n{said}");
            }
            agent.kill().unwrap();
            agent.wait().unwrap();
            let jobs = std::fs::read_dir(self.world.root().join(".mailfleet/jobs"));
            self.amid += usize::from(jobs.is_ok_and(|mut jobs| jobs.next().is_some()));
        }
    }

    /// Mails an order or two, unless enough are under way.
    fn order(&mut self) {
        self.world.collect();
        let done = |r: &&Report| {
            matches!(r, Report::Ended(_)) || matches!(r, Report::Versions(v) if v.query.is_some())
        };
        let done = self.world.reports.iter().filter(done).count();
        while self.installs.len() + self.queries.len() - done < UNDER_WAY_MAX_COUNT && self.dice.below(3) > 0
        {
            if self.dice.below(4) == 0 {
                self.queries.push(self.world.query());
                continue;
            }
            let version = self.installs.len() as u64 + 1;
            let script = match (fails(version), version % 5) {
                (true, _) => Some("[ $1 = verify ] && exit 1; exit 0"),
                (false, 0) => None,
                (false, _) => Some("exit 0"),
            };
            let files = files(version);
            let files = files.each_ref().map(|(path, content)| (path.as_str(), content.as_str()));
            let order = self.world.install(&format!("{version}-0"), script, &files);
            self.installs.push((order, version));
        }
    }

    /// Lets the agent finish, and looks at everything.
    pub fn check(&mut self) -> Count {
        let out = self.world.agent(&["run", "--once"]);
        assert!(matches!(out.status.code(), Some(0 | 1)), "{}", text(&out));
        self.world.collect();
        assert_eq!(self.world.unread(), 0, "mails are left");
        nothing_is_left(&self.world);
        let (mut count, mut there, mut now) =
            (Count { amid: self.amid, ..Count::default() }, BTreeMap::new(), Reported::Nothing);
        for (order, version) in self.installs.clone() {
            let ended = self.world.ended(order);
            match &ended.outcome {
                Outcome::Installed if !fails(version) => {
                    there.extend(files(version));
                    now = Reported::Exact(SoftwareVersion::parse(&format!("{version}-0")).unwrap());
                    count.installed += 1;
                }
                Outcome::RolledBack(Failure { cause: Cause::ScriptExit(1), .. }) if fails(version) => {
                    count.rolled_back += 1;
                }
                Outcome::RolledBack(Failure { cause: Cause::Interrupted, .. }) => count.interrupted += 1,
                other => panic!("{version}-0: {other:?}"),
            }
            assert_eq!(ended.versions.software, now, "after {version}-0");
            all_good(&ended.versions);
        }
        for query in self.queries.clone() {
            let answers = self.world.answers(query);
            assert_eq!(answers.len(), 1, "{:?}", self.world.reports);
            all_good(&answers[0]);
            count.answers += 1;
        }
        let file = |(path, node): (String, Node)| match node {
            Node::Folder { .. } => None,
            Node::File(file) => Some((path, String::from_utf8(file.bytes().to_vec()).unwrap())),
        };
        let found: BTreeMap<String, String> = root(&self.world).0.into_iter().filter_map(file).collect();
        assert_eq!(found, there, "the files are not those of {now:?}");
        count
    }
}
