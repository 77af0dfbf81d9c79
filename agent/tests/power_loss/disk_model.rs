//! A disk that forgets: what a folder holds now, and what of it would be there after a power cut. Promises no
//! more than POSIX does: a file's content, size and mode are kept by its own `fsync`, a name by the `fsync` of the
//! folder it is in, and nothing by anything else.
//!
//! Only the agent's two folders forget. What is beside them is another machine's: the mail server's mailboxes.

use std::collections::BTreeMap;

use crate::tree::{File, Node, Tree};

/// The folders of the agent: its home and its root.
const FORGETFUL: [&str; 2] = ["home", "root"];

/// A change; paths are relative to the watched folder.
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    File { path: String, mode: u32 },
    Write { path: String, bytes: Vec<u8> },
    Truncate { path: String, bytes: usize },
    Mode { path: String, mode: u32 },
    Folder { path: String, mode: u32 },
    Rename { from: String, to: String },
    Link { from: String, to: String },
    Remove { path: String },
    Sync { path: String },
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, mode } => write!(f, "new file {path} ({mode:o})"),
            Self::Write { path, bytes } => write!(f, "{} bytes to {path}", bytes.len()),
            Self::Truncate { path, bytes } => write!(f, "{path} cut to {bytes} bytes"),
            Self::Mode { path, mode } => write!(f, "mode {mode:o} for {path}"),
            Self::Folder { path, mode } => write!(f, "new folder {path} ({mode:o})"),
            Self::Rename { from, to } => write!(f, "{from} renamed to {to}"),
            Self::Link { from, to } => write!(f, "{from} linked to {to}"),
            Self::Remove { path } => write!(f, "{path} removed"),
            Self::Sync { path } => write!(f, "{path} synced"),
        }
    }
}

/// What a power cut takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing: the agent was killed, not the box.
    Nothing,
    /// All that was not synced.
    Unsynced,
    /// Content that was not synced; names stay, so that new files are empty.
    Content,
    /// Names that were not synced; content stays.
    Names,
    /// All that was not synced, and the mail server does not know of the deletions yet.
    UnsyncedAndDeletions,
    /// Names and content by chance; a file may be cut short or hold zeros.
    Chance(u64),
}

impl Cut {
    pub const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Unsynced,
        Self::Content,
        Self::Names,
        Self::UnsyncedAndDeletions,
        Self::Chance(1),
        Self::Chance(2),
        Self::Chance(3),
    ];
}

type Names = BTreeMap<String, usize>;

#[derive(Clone, Debug)]
enum Inode {
    File { now: File, safe: File },
    Folder { now: Names, safe: Names, mode: u32 },
}

/// A name in a folder that is given to an inode, or removed.
#[derive(Clone, Debug)]
struct Change {
    folder: usize,
    name: String,
    inode: Option<usize>,
}

/// The disk. Its first inode is the watched folder.
#[derive(Clone, Debug)]
pub struct Disk {
    inodes: Vec<Inode>,
    /// Changes of names that no sync has made safe yet, oldest first; those of one call stand together.
    pending: Vec<Vec<Change>>,
    /// Mails that were deleted since the disk was last told what others have done.
    deleted: Tree,
}

impl Disk {
    /// An empty folder.
    pub fn new() -> Self {
        Self { inodes: vec![folder(0o700)], pending: vec![], deleted: Tree::default() }
    }

    /// Does what a call has done.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::File { path, mode } => {
                if self.find(path).is_none() {
                    let empty = File::new(*mode, vec![]);
                    self.add(path, Inode::File { now: empty.clone(), safe: empty });
                }
            }
            Op::Folder { path, mode } => self.add(path, folder(*mode)),
            // Nobody here writes a file but from its start to its end.
            Op::Write { path, bytes } => {
                self.change(path, |file| File::new(file.mode, [file.bytes(), bytes].concat()));
            }
            Op::Truncate { path, bytes } => self.change(path, |file| {
                let mut content = file.bytes().to_vec();
                content.resize(*bytes, 0);
                File::new(file.mode, content)
            }),
            Op::Mode { path, mode } => {
                self.change(path, |file| file.with_mode(*mode));
            }
            Op::Rename { from, to } => {
                let inode = self.must_find(from);
                // Two names of one file: POSIX leaves both.
                if self.find(to) != Some(inode) {
                    self.set(&[(from, None), (to, Some(inode))]);
                }
            }
            Op::Link { from, to } => self.set(&[(to, Some(self.must_find(from)))]),
            Op::Remove { path } => {
                let inode = self.must_find(path);
                if let (Inode::File { now, .. }, false) = (&self.inodes[inode], forgets(path)) {
                    self.deleted.0.insert(path.clone(), Node::File(now.clone()));
                }
                self.set(&[(path, None)]);
            }
            Op::Sync { path } => self.sync(self.must_find(path)),
        }
    }

    /// Takes over what others have done before the agent starts: beside its folders all of it, and in them what is
    /// new, which they have not synced.
    pub fn look_around(&mut self, tree: &Tree) {
        self.deleted = Tree::default();
        let (now, safe) = self.names(0);
        now.retain(|name, _| forgets(name));
        safe.retain(|name, _| forgets(name));
        for (path, node) in &tree.0 {
            match node {
                _ if self.find(path).is_some() => {}
                Node::Folder { mode } => self.apply(&Op::Folder { path: path.clone(), mode: *mode }),
                Node::File(file) => {
                    self.apply(&Op::File { path: path.clone(), mode: file.mode });
                    self.apply(&Op::Write { path: path.clone(), bytes: file.bytes().to_vec() });
                }
            }
        }
    }

    /// What is there after a power cut at this moment.
    pub fn after(&self, cut: Cut) -> Tree {
        let mut dice = Dice(if let Cut::Chance(seed) = cut { seed } else { 0 });
        let names_of = |inode: &Inode| match inode {
            Inode::File { .. } => Names::new(),
            Inode::Folder { now, .. } if matches!(cut, Cut::Nothing | Cut::Content) => now.clone(),
            Inode::Folder { safe, .. } => safe.clone(),
        };
        let mut names: Vec<Names> = self.inodes.iter().map(names_of).collect();
        if matches!(cut, Cut::Chance(_)) {
            // The changes of one call come together or not at all, but later calls may do without earlier ones.
            for change in self.pending.iter().filter(|_| dice.below(2) == 0).flatten() {
                set_name(&mut names[change.folder], &change.name, change.inode);
            }
        }
        let mut tree = Tree::default();
        let mut folders = vec![(0, String::new())];
        while let Some((inode, at)) = folders.pop() {
            for (name, &inode) in &names[inode] {
                let path = format!("{at}{name}");
                let node = match &self.inodes[inode] {
                    Inode::Folder { mode, .. } => {
                        folders.push((inode, format!("{path}/")));
                        Node::Folder { mode: *mode }
                    }
                    Inode::File { now, safe } => Node::File(match cut {
                        Cut::Nothing | Cut::Names => now.clone(),
                        Cut::Unsynced | Cut::Content | Cut::UnsyncedAndDeletions => safe.clone(),
                        Cut::Chance(_) => by_chance(now, safe, &mut dice),
                    }),
                };
                tree.0.insert(path, node);
            }
        }
        if cut == Cut::UnsyncedAndDeletions {
            tree.0.extend(self.deleted.0.clone());
        }
        tree
    }

    fn add(&mut self, path: &str, inode: Inode) {
        self.inodes.push(inode);
        let last = self.inodes.len() - 1;
        self.set(&[(path, Some(last))]);
    }

    /// Changes names in one call.
    fn set(&mut self, changes: &[(&str, Option<usize>)]) {
        let mut unsafe_yet = vec![];
        for (path, inode) in changes {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let folder = self.must_find(folder);
            let (now, safe) = self.names(folder);
            set_name(now, name, *inode);
            if forgets(path) {
                unsafe_yet.push(Change { folder, name: name.to_owned(), inode: *inode });
            } else {
                set_name(safe, name, *inode);
            }
        }
        self.pending.push(unsafe_yet);
    }

    fn change(&mut self, path: &str, change: impl FnOnce(&File) -> File) {
        let inode = self.must_find(path);
        let Inode::File { now, .. } = &mut self.inodes[inode] else {
            panic!("no model of a change of {path}")
        };
        *now = change(now);
        if !forgets(path) {
            self.sync(inode);
        }
    }

    fn sync(&mut self, inode: usize) {
        match &mut self.inodes[inode] {
            Inode::File { now, safe } => safe.clone_from(now),
            Inode::Folder { now, safe, .. } => {
                safe.clone_from(now);
                self.pending.iter_mut().for_each(|call| call.retain(|change| change.folder != inode));
            }
        }
        self.pending.retain(|call| !call.is_empty());
    }

    fn names(&mut self, inode: usize) -> (&mut Names, &mut Names) {
        let Inode::Folder { now, safe, .. } = &mut self.inodes[inode] else { panic!("expected a folder") };
        (now, safe)
    }

    fn find(&self, path: &str) -> Option<usize> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(0, |folder, name| {
            let Inode::Folder { now, .. } = &self.inodes[folder] else { return None };
            now.get(name).copied()
        })
    }

    fn must_find(&self, path: &str) -> usize {
        self.find(path).unwrap_or_else(|| panic!("the model does not know {path}"))
    }
}

fn folder(mode: u32) -> Inode {
    Inode::Folder { now: Names::new(), safe: Names::new(), mode }
}

fn forgets(path: &str) -> bool {
    path.split('/').next().is_some_and(|first| FORGETFUL.contains(&first))
}

fn set_name(names: &mut Names, name: &str, inode: Option<usize>) {
    match inode {
        Some(inode) => drop(names.insert(name.to_owned(), inode)),
        None => drop(names.remove(name)),
    }
}

/// Content that was not synced may be there, be the old one, end in the middle, or be zeros of the right number.
fn by_chance(now: &File, safe: &File, dice: &mut Dice) -> File {
    if now == safe {
        return now.clone();
    }
    let bytes = now.bytes();
    match dice.below(4) {
        0 => now.clone(),
        1 => safe.clone(),
        2 => File::new(safe.mode, bytes[..bytes.len() / 2].to_vec()),
        _ => File::new(now.mode, vec![0; bytes.len()]),
    }
}

/// SplitMix64: a small generator whose every seed is a good one.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }
}

#[test]
fn the_model_keeps_what_was_synced_and_only_that() {
    let path = |text: &str| text.to_owned();
    let mut disk = Disk::new();
    let file = |tree: &Tree, name: &str| match tree.0.get(name) {
        Some(Node::File(file)) => Some(String::from_utf8(file.bytes().to_vec()).unwrap()),
        _ => None,
    };
    disk.apply(&Op::Folder { path: path("home"), mode: 0o700 });
    disk.apply(&Op::Sync { path: path("") });
    disk.apply(&Op::File { path: path("home/a"), mode: 0o600 });
    disk.apply(&Op::Write { path: path("home/a"), bytes: b"one".to_vec() });
    assert_eq!(file(&disk.after(Cut::Nothing), "home/a").unwrap(), "one");
    assert_eq!(file(&disk.after(Cut::Content), "home/a").unwrap(), "", "the name without the content");
    assert_eq!(file(&disk.after(Cut::Names), "home/a"), None, "no name for the content");
    disk.apply(&Op::Sync { path: path("home/a") });
    assert_eq!(file(&disk.after(Cut::Content), "home/a").unwrap(), "one");
    assert_eq!(file(&disk.after(Cut::Unsynced), "home/a"), None, "a file's fsync is not its name's");
    disk.apply(&Op::Sync { path: path("home") });
    disk.apply(&Op::Rename { from: path("home/a"), to: path("home/b") });
    let cut = disk.after(Cut::Unsynced);
    assert_eq!((file(&cut, "home/a").unwrap().as_str(), file(&cut, "home/b")), ("one", None));
    for seed in 0..20 {
        let cut = disk.after(Cut::Chance(seed));
        assert!(file(&cut, "home/a").is_some() != file(&cut, "home/b").is_some(), "a rename is one change");
    }
    disk.apply(&Op::Sync { path: path("home") });
    assert_eq!(disk.after(Cut::Unsynced), disk.after(Cut::Nothing));
    disk.apply(&Op::Folder { path: path("post"), mode: 0o700 });
    disk.apply(&Op::File { path: path("post/mail"), mode: 0o600 });
    assert!(file(&disk.after(Cut::Unsynced), "post/mail").is_some(), "what is beside is not forgotten");
    disk.apply(&Op::Remove { path: path("post/mail") });
    assert!(file(&disk.after(Cut::Unsynced), "post/mail").is_none());
    assert!(file(&disk.after(Cut::UnsyncedAndDeletions), "post/mail").is_some());
}
