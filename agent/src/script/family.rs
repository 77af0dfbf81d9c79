//! The programs that a script has started, wherever they went: a program that left the script's process group
//! is still a descendant of the agent, because orphans come to it while a script runs. Only looked for when the
//! script has to be ended; what a script that ended well leaves running stays.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use tokio::process::Child;

use crate::limits::KILL_ROUNDS_MAX_COUNT;

/// Between the polite signal and the other one.
const GRACE: Duration = Duration::from_secs(2);

/// Between two looks for programs that were started meanwhile.
const ROUND: Duration = Duration::from_millis(20);

/// The descendants of one script.
pub(super) struct Family {
    /// Children that the agent had before: programs that earlier phases left running.
    elders: BTreeSet<i32>,
    group: Option<Pid>,
}

impl Family {
    /// Before the script starts: from now on the agent inherits orphans.
    pub(super) fn expect() -> Self {
        if let Err(err) = set_child_subreaper(Some(getpid())) {
            tracing::warn!(%err, "Programs that leave a script's process group will not be found");
        }
        let own = getpid().as_raw_nonzero().get();
        let children = processes().into_iter().filter(|p| p.parent == own);
        Self { elders: children.map(|p| p.pid).collect(), group: None }
    }

    /// The script has started as the leader of its group.
    pub(super) fn started(&mut self, script: &Child) {
        self.group = script.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    }

    /// Ends them all: they must not go on with a half-done phase.
    pub(super) async fn end(&self, script: &mut Child) {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(GRACE, script.wait()).await;
        // Also if the script itself has ended: some of its programs may not have.
        if !self.killed().await {
            tracing::error!("Programs of the script cannot be ended");
        }
        let _ = script.wait().await;
    }

    async fn killed(&self) -> bool {
        for _ in 0..KILL_ROUNDS_MAX_COUNT {
            if !self.signal(Signal::KILL) {
                return true;
            }
            tokio::time::sleep(ROUND).await;
        }
        false
    }

    /// Signals all that is alive of them. True if there was any.
    fn signal(&self, signal: Signal) -> bool {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
        let alive = descendants(&processes(), getpid().as_raw_nonzero().get(), &self.elders);
        for pid in alive.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, signal);
        }
        !alive.is_empty()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let _ = set_child_subreaper(None);
    }
}

/// Takes note of the end of programs that came to the agent as orphans. Only while no program of the agent's
/// own runs: their end belongs to who started them.
pub(crate) fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    ended: bool,
}

fn processes() -> Vec<Process> {
    let list = || -> io::Result<Vec<Process>> {
        let entries = std::fs::read_dir("/proc")?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        Ok(pids.filter_map(|pid| in_stat(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)).collect())
    };
    list().unwrap_or_default()
}

/// `pid (name) state parent …`; the name may hold anything.
fn in_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let stat = String::from_utf8_lossy(stat);
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    Some(Process { pid, parent: fields.next()?.parse().ok()?, ended })
}

/// All below `ancestor` that have not ended, without `spared` and what is below them.
fn descendants(all: &[Process], ancestor: i32, spared: &BTreeSet<i32>) -> Vec<i32> {
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|p| p.parent == parent && !spared.contains(&p.pid)) {
            parents.push(process.pid);
            if !process.ended {
                found.push(process.pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let read = |text: &str| in_stat(7, text.as_bytes());
        let expected = |ended| Some(Process { pid: 7, parent: 3, ended });
        assert_eq!(read("7 (sh) S 3 7 7 0"), expected(false));
        assert_eq!(read("7 (a) Z 9 b) Z 3 7"), expected(true));
        assert_eq!(read("7 sh S"), None);
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_elders_are_spared() {
        let process = |pid, parent| Process { pid, parent, ended: pid == 12 };
        let all =
            [(10, 1), (11, 10), (12, 10), (13, 12), (14, 10), (15, 14), (16, 2)].map(|(p, q)| process(p, q));
        let mut found = descendants(&all, 10, &BTreeSet::from([14]));
        found.sort_unstable();
        assert_eq!(found, [11, 13], "12 has ended, 14 was there before, 16 is another's");
    }
}
