//! The agent under `strace`: killed at a chosen system call, or recorded call by call. Follows only the agent
//! itself, not the bundle's scripts: what a script writes is its author's to make safe, and the tests' scripts
//! write nothing below the agent's folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::disk_model::Op;

/// Every system call that could change what a disk holds. Those that an architecture does not have are passed
/// over.
const MODIFYING: [&str; 37] = [
    "open",
    "openat",
    "openat2",
    "creat",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "copy_file_range",
    "sendfile",
    "splice",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "truncate",
    "ftruncate",
    "fallocate",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "setxattr",
];

/// One system call: its name, how often the agent had made it before, and what it did below the folder.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub nth: usize,
    pub op: Option<Op>,
}

/// Fails with what to do about it if nothing can be traced here.
pub fn require() {
    let tried = Command::new("strace").args(["-o", "/dev/null", "-e", "trace=write", "true"]).output();
    let wrong = match tried {
        Ok(out) if out.status.success() => return,
        Ok(out) => String::from_utf8_lossy(&out.stderr).into_owned(),
        Err(err) => err.to_string(),
    };
    panic!(
        "expected to run programs under strace (Debian package \"strace\"; a container needs the capability \
         SYS_PTRACE, and /proc/sys/kernel/yama/ptrace_scope at most 1), found: {wrong}"
    );
}

/// Runs a command and kills it when it begins its `nth` call of `name`, counted from 1.
pub fn killed_at(command: &Command, name: &str, nth: usize) -> Output {
    let options = [
        "-o".to_owned(),
        "/dev/null".to_owned(),
        format!("--trace={name}"),
        format!("--inject={name}:signal=KILL:when={nth}"),
    ];
    under(command, &options).output().unwrap()
}

/// Runs a command and gives all its modifying calls; `folder` is the one that is watched.
pub fn record(command: &Command, folder: &Path) -> (Output, Vec<Call>) {
    let log = folder.join("strace.log");
    let set: Vec<String> = MODIFYING.iter().map(|name| format!("?{name}")).collect();
    let log_text = log.display().to_string();
    let options = ["-y", "-xx", "-s", "100000000", "-o", &log_text, &format!("--trace={}", set.join(","))];
    let out = under(command, &options.map(str::to_owned)).output().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let reader = Reader { folder: folder.to_owned(), umask: umask() };
    let mut counts = BTreeMap::new();
    let calls = text.lines().filter_map(|line| reader.call(line, &mut counts)).collect();
    (out, calls)
}

/// The same command, run by strace.
fn under(command: &Command, options: &[String]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(options).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace.stdin(std::process::Stdio::null());
    strace
}

/// Reads strace's lines, in which every text is hexadecimal, so that a comma or bracket is never part of one.
struct Reader {
    folder: PathBuf,
    umask: u32,
}

impl Reader {
    /// A line such as `write(3<\x2f…>, "\x61…", 5) = 5`.
    fn call(&self, line: &str, counts: &mut BTreeMap<String, usize>) -> Option<Call> {
        if line.starts_with("---") || line.starts_with("+++") {
            return None;
        }
        let (name, rest) = line.split_once('(').unwrap_or_else(|| panic!("strace said {line}"));
        let (args, result) = rest.rsplit_once(" = ").unwrap_or_else(|| panic!("strace said {line}"));
        let args = args.trim_end().strip_suffix(')').unwrap_or_else(|| panic!("strace said {line}"));
        let nth = counts.entry(name.to_owned()).or_insert(0);
        *nth += 1;
        let done = !result.starts_with('-') && !result.starts_with('?');
        let args: Vec<&str> = args.split(", ").collect();
        let op = if done { self.op(name, &args, result) } else { None };
        Some(Call { name: name.to_owned(), nth: *nth, op })
    }

    /// What a successful call has done below the folder.
    fn op(&self, name: &str, args: &[&str], result: &str) -> Option<Op> {
        Some(match name {
            "open" | "openat" | "creat" | "openat2" => return self.opened(name, args),
            "write" => {
                let bytes = text_of(args[1])[..result.parse::<usize>().unwrap()].to_vec();
                Op::Write { path: self.open_file(args[0])?, bytes }
            }
            "writev" => {
                let mut bytes: Vec<u8> = args[1..]
                    .iter()
                    .filter_map(|arg| arg.trim_start_matches('[').strip_prefix("{iov_base="))
                    .flat_map(text_of)
                    .collect();
                bytes.truncate(result.parse().unwrap());
                Op::Write { path: self.open_file(args[0])?, bytes }
            }
            "fsync" | "fdatasync" => Op::Sync { path: self.open_file(args[0])? },
            "ftruncate" => Op::Truncate { path: self.open_file(args[0])?, bytes: args[1].parse().unwrap() },
            "fchmod" => Op::Mode { path: self.open_file(args[0])?, mode: octal(args[1]) },
            "chmod" => Op::Mode { path: self.at(None, args[0])?, mode: octal(args[1]) },
            "fchmodat" | "fchmodat2" => {
                Op::Mode { path: self.at(Some(args[0]), args[1])?, mode: octal(args[2]) }
            }
            "rename" | "link" => self.two(name, [(None, args[0]), (None, args[1])])?,
            "renameat" | "renameat2" | "linkat" => {
                self.two(name, [(Some(args[0]), args[1]), (Some(args[2]), args[3])])?
            }
            "unlink" => Op::Remove { path: self.at(None, args[0])? },
            "unlinkat" => Op::Remove { path: self.at(Some(args[0]), args[1])? },
            "rmdir" => Op::Remove { path: self.at(None, args[0])? },
            "mkdir" => Op::Folder { path: self.at(None, args[0])?, mode: self.created(args[1]) },
            "mkdirat" => Op::Folder { path: self.at(Some(args[0]), args[1])?, mode: self.created(args[2]) },
            _ => {
                // Better no result than one that passes over what it does not know.
                let folder = hex(&self.folder.display().to_string());
                assert!(!args.iter().any(|arg| arg.contains(&folder)), "no model of {name}{args:?}");
                return None;
            }
        })
    }

    fn opened(&self, name: &str, args: &[&str]) -> Option<Op> {
        let (folder, rest) =
            if name.starts_with("openat") { (Some(args[0]), &args[1..]) } else { (None, args) };
        let path = self.at(folder, rest[0])?;
        if name == "creat" || rest.iter().any(|arg| arg.contains("O_TRUNC")) {
            panic!("no model of {name}{args:?}");
        }
        let creates = rest.iter().any(|arg| arg.contains("O_CREAT"));
        assert!(name != "openat2" || !creates, "no model of {name}{args:?}");
        creates.then(|| Op::File { path, mode: self.created(rest[2]) })
    }

    /// The mode of something new.
    fn created(&self, mode: &str) -> u32 {
        octal(mode) & !self.umask
    }

    /// A file gets another name.
    fn two(&self, name: &str, paths: [(Option<&str>, &str); 2]) -> Option<Op> {
        match paths.map(|(folder, path)| self.at(folder, path)) {
            [Some(from), Some(to)] if name.starts_with("link") => Some(Op::Link { from, to }),
            [Some(from), Some(to)] => Some(Op::Rename { from, to }),
            [None, None] => None,
            other => panic!("{name} into or out of the folder: {other:?}"),
        }
    }

    /// The path of an open file such as `3<\x2f…>`, if it is below the folder and still has a name.
    fn open_file(&self, arg: &str) -> Option<String> {
        let path = String::from_utf8(text_of(arg)).unwrap();
        if path.ends_with(" (deleted)") { None } else { self.below(Path::new(&path)) }
    }

    /// The path of a name beside an open folder.
    fn at(&self, folder: Option<&str>, name: &str) -> Option<String> {
        let name = String::from_utf8(text_of(name)).unwrap();
        let folder = folder.map(|folder| String::from_utf8(text_of(folder)).unwrap());
        self.below(&folder.map_or_else(PathBuf::new, PathBuf::from).join(name))
    }

    fn below(&self, path: &Path) -> Option<String> {
        Some(path.strip_prefix(&self.folder).ok()?.to_str().unwrap().to_owned())
    }
}

/// The bytes of `"\x61\x62"` or `3<\x2f\x61>`.
fn text_of(arg: impl AsRef<str>) -> Vec<u8> {
    let arg = arg.as_ref();
    assert!(!arg.ends_with("..."), "strace has cut a text off");
    let digits = |two: &str| u8::from_str_radix(two.get(..2).unwrap(), 16).unwrap();
    arg.split("\\x").skip(1).map(digits).collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// This process's file mode creation mask.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    octal(status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim())
}

fn octal(arg: &str) -> u32 {
    u32::from_str_radix(arg, 8).unwrap()
}
