//! The program that this process is, on the disk: which file, where; and how the process becomes another one.
//! Whether it should is the core's.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use agent_core::Program;
use shared::{Digest, Hasher, Label, ModulePath};

use crate::files::copy_seen;

/// The file that runs, as the kernel knows it, whatever stands at its name by now.
const OWN: &str = "/proc/self/exe";

/// The program that runs. One that cannot be found out is never replaced.
pub(crate) fn own(root: &Path) -> Program {
    let found = || -> io::Result<Program> {
        let path = std::fs::read_link(OWN)?;
        let file = below(&root.canonicalize()?, &path);
        let digest = digest_of(&mut File::open(OWN)?)?;
        Ok(Program { digest, file, place: Label::lossy(&path.display().to_string()) })
    };
    found().unwrap_or_else(|err| {
        tracing::warn!(%err, "Cannot tell which program this is; it will not replace itself");
        Program::default()
    })
}

/// A path below the root as a module's.
fn below(root: &Path, path: &Path) -> Option<ModulePath> {
    ModulePath::parse(path.strip_prefix(root).ok()?.to_str()?).ok()
}

pub(crate) fn digest_of(file: &mut File) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    copy_seen(file, &mut io::sink(), &mut |piece| hasher.update(piece))?;
    Ok(hasher.finish())
}

/// Goes on as the program that is at `path` now, with the same arguments: the same process to whoever has started
/// this one, without its locks and connections. Gives only why it did not work.
pub(crate) fn become_what_is_at(path: &Path) -> anyhow::Error {
    tracing::warn!(program = %path.display(), "Going on as another program");
    let err = Command::new(path).args(std::env::args_os().skip(1)).exec();
    anyhow::Error::new(err).context(format!("cannot go on as {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_below_the_root_has_a_module_s_path_and_any_other_has_none() {
        let of = |path: &str| below(Path::new("/opt/box"), Path::new(path)).map(|path| path.to_string());
        assert_eq!(of("/opt/box/bin/agent").as_deref(), Some("bin/agent"));
        for elsewhere in
            ["/opt/box", "/opt/boxes/bin/agent", "/usr/bin/agent", "/opt/box/.mailfleet/jobs/x/stage/a"]
        {
            assert_eq!(of(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn this_process_is_found_by_its_content() {
        let path = std::env::current_exe().unwrap().canonicalize().unwrap();
        let own = own(path.parent().unwrap());
        assert_eq!(own.digest, Digest::of(&std::fs::read(&path).unwrap()));
        assert_eq!(own.file.unwrap().as_str(), path.file_name().unwrap().to_str().unwrap());
    }
}
