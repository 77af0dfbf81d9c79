//! A folder as a value: read from the disk, compared, written elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use shared::{Digest, Hasher};

/// Files and folders by relative path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Node>);

/// A file or a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Folder { mode: u32 },
    File(File),
}

/// A file's mode and bytes; all trees share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub mode: u32,
    digest: Digest,
    bytes: Arc<Vec<u8>>,
}

impl File {
    pub fn new(mode: u32, bytes: Vec<u8>) -> Self {
        Self { mode, digest: Digest::of(&bytes), bytes: Arc::new(bytes) }
    }

    pub fn with_mode(&self, mode: u32) -> Self {
        Self { mode, ..self.clone() }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Tree {
    /// All that is below a folder.
    pub fn read(folder: &Path) -> Self {
        let mut tree = Self::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let mode = metadata.permissions().mode() & 0o7777;
                let node = if metadata.is_dir() {
                    folders.push(path.clone());
                    Node::Folder { mode }
                } else {
                    Node::File(File::new(mode, fs::read(&path).unwrap()))
                };
                tree.0.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned(), node);
            }
        }
        tree
    }

    /// Writes it into an empty folder, which takes the place of `origin` in the agent's configuration.
    pub fn write(&self, folder: &Path, origin: &Path) {
        for (name, node) in &self.0 {
            let path = folder.join(name);
            let mode = match node {
                Node::Folder { mode } => {
                    fs::create_dir(&path).unwrap();
                    *mode
                }
                Node::File(file) if name == "home/agent.toml" => {
                    let (from, to) = (origin.display().to_string(), folder.display().to_string());
                    let text = String::from_utf8_lossy(file.bytes()).replace(&from, &to);
                    fs::write(&path, text).unwrap();
                    file.mode
                }
                Node::File(file) => {
                    fs::write(&path, file.bytes()).unwrap();
                    file.mode
                }
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Two trees with one digest are the same.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        for (name, node) in &self.0 {
            let line = match node {
                Node::Folder { mode } => format!("{name}\0folder {mode:o}\0"),
                Node::File(file) => format!("{name}\0{:o} {}\0", file.mode, file.digest),
            };
            hasher.update(line.as_bytes());
        }
        hasher.finish()
    }

    /// Without what is below this folder, and the folder.
    pub fn without(mut self, folder: &str) -> Self {
        self.0.retain(|name, _| name != folder && !name.starts_with(&format!("{folder}/")));
        self
    }

    /// What differs from another tree, in lines for a person.
    pub fn difference(&self, other: &Self) -> String {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let mut text = String::new();
        for name in names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)) {
            let _ = writeln!(text, "{name}: {} / {}", told(self.0.get(name)), told(other.0.get(name)));
        }
        text
    }
}

fn told(node: Option<&Node>) -> String {
    match node {
        None => "not there".to_owned(),
        Some(Node::Folder { mode }) => format!("folder {mode:o}"),
        Some(Node::File(file)) => format!("file {:o}, {} bytes", file.mode, file.bytes.len()),
    }
}
