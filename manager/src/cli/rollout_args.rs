//! The options of `campaign start` and `campaign plan` that say how a campaign goes about its targets, and what they amount to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, ValueEnum};
use manager_core::rollout::{ConsentTerms, Gate, Retry, Share, Times, Wave, WaveKind, WaveSize, assign};
use manager_core::{Rollout, TargetState};
use shared::limits::{ORDER_LIFE, ORDER_LIFE_MAX};
use shared::time::parse_duration;
use shared::{AgentId, UnixMillis};

use super::fail::Fail;
use super::show;

/// An agent has this long for an install after the time that it is told.
const AFTER_INSTALL_TIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// How a campaign goes about its targets.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rollout")]
pub(crate) struct RolloutArgs {
    /// Try it on these test agents first: all must be verified, pass the bundle's test and be watched for a while
    #[arg(long = "test", value_name = "ID,...", value_delimiter = ',', value_parser = AgentId::parse)]
    pub(crate) test: Vec<AgentId>,
    /// How long test agents are watched for new faults of class A or B once they are verified
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub(crate) soak: Duration,
    /// Mail the others in waves of these sizes, such as 10,5%,rest; each waits for the gate of the one before
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', value_parser = WaveSize::parse)]
    pub(crate) waves: Vec<WaveSize>,
    /// A gate opens when this share of its wave is verified
    #[arg(long, value_name = "SHARE", default_value = "95%", value_parser = Share::parse)]
    pub(crate) gate_success: Share,
    /// The campaign halts if a larger share of a wave fails
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = Share::parse)]
    pub(crate) gate_failures: Share,
    /// The campaign halts if a larger share of a wave does not answer
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = Share::parse)]
    pub(crate) gate_silence: Share,
    /// A wave is watched this long after its last mail, at least
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub(crate) observe: Duration,
    /// Spread the mails of a wave over this time
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub(crate) spread: Duration,
    /// Ask each site's administrator by mail first; they have this long to answer
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) ask: Option<Duration>,
    /// Mail nothing before this, such as 2026-12-01T20:00:00Z
    #[arg(long, value_name = "TIME", value_parser = UnixMillis::parse)]
    pub(crate) send_at: Option<UnixMillis>,
    /// No agent installs before this
    #[arg(long, value_name = "TIME", value_parser = UnixMillis::parse)]
    pub(crate) install_at: Option<UnixMillis>,
    /// Agents install only in the windows of their sites (agent set window=...)
    #[arg(long)]
    pub(crate) windows: bool,
    /// Agents ask for the bundle when they may install it, instead of getting it at once
    #[arg(long)]
    pub(crate) fetch: bool,
    /// A person at a site can put the install off by this much at most
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) defer_max: Option<Duration>,
    /// Agents stop trying at this
    #[arg(long, value_name = "TIME", value_parser = UnixMillis::parse)]
    pub(crate) expires: Option<UnixMillis>,
    /// Wait this long before failed targets are mailed again
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub(crate) retry_after: Duration,
    /// Mail again only after these ends
    #[arg(
        long,
        value_name = "END,...",
        value_delimiter = ',',
        value_enum,
        default_value = "failed,silent,undeliverable"
    )]
    pub(crate) retry_on: Vec<RetryOn>,
}

/// An end after which a target is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RetryOn {
    /// Its install failed
    Failed,
    /// It does not answer
    Silent,
    /// Its mail did not arrive
    Undeliverable,
}

/// What the options amount to for these agents.
pub(crate) struct Course {
    pub(crate) rollout: Rollout,
    /// The wave of each, from 0.
    pub(crate) waves: BTreeMap<AgentId, u32>,
    /// How long an order has to live for its times.
    pub(crate) order_life: Duration,
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl RolloutArgs {
    /// Checks the options against each other and deals the agents into waves. Those that are left out anyway count in none, and stand
    /// in the last.
    pub(crate) fn course(
        &self,
        agents: &[AgentId],
        left_out: &BTreeSet<AgentId>,
        seed: &[u8],
        now: UnixMillis,
    ) -> Result<Course, Fail> {
        let order_life = self.check_times(now)?;
        let tests: BTreeSet<&AgentId> = self.test.iter().collect();
        let others = || agents.iter().filter(|agent| !tests.contains(agent));
        let customers: Vec<AgentId> = others().filter(|agent| !left_out.contains(*agent)).cloned().collect();
        if customers.is_empty() && !tests.is_empty() && !self.waves.is_empty() {
            return Err(Fail::usage("--waves has nobody to deal: every selected agent is a test agent")
                .next("select the others too, or leave --waves away"));
        }
        let mut rollout = Rollout::at_once();
        rollout.waves.clear();
        let mut waves: BTreeMap<AgentId, u32> = tests.iter().map(|agent| ((*agent).clone(), 0)).collect();
        if !waves.is_empty() {
            let gate = Gate { observe_ms: millis(self.soak), ..Gate::TEST };
            rollout.waves.push(Wave::new(WaveKind::Test, gate));
        }
        let first = u32::from(!waves.is_empty());
        let dealt = assign(seed, &customers, &self.waves);
        let some = others().next().is_some();
        let count = dealt.iter().max().map_or(u32::from(some), |last| last.saturating_add(1));
        for _ in 0..count {
            let mut wave = Wave::new(WaveKind::Customers, self.gate());
            wave.spread_ms = millis(self.spread);
            rollout.waves.push(wave);
        }
        let last = first.saturating_add(count).saturating_sub(1);
        waves.extend(others().map(|agent| (agent.clone(), last)));
        waves.extend(customers.into_iter().zip(dealt.into_iter().map(|wave| wave.saturating_add(first))));
        rollout.retry = Retry { delay_ms: millis(self.retry_after), after: self.retried() };
        rollout.consent = self.ask.map(|patience| ConsentTerms { patience_ms: millis(patience) });
        rollout.times = Times {
            send_at: self.send_at,
            install_at: self.install_at,
            windows: self.windows,
            fetch: self.fetch,
            defer_max_ms: self.defer_max.map(millis),
            expires_at: self.expires,
        };
        Ok(Course { rollout, waves, order_life })
    }

    /// Without waves nobody waits behind a gate: the campaign tells its failures at its end (M12).
    fn gate(&self) -> Gate {
        if self.waves.is_empty() {
            return Gate::NONE;
        }
        Gate {
            success_min: self.gate_success,
            failure_max: self.gate_failures,
            silence_max: self.gate_silence,
            observe_ms: millis(self.observe),
        }
    }

    fn retried(&self) -> Vec<TargetState> {
        [
            (RetryOn::Failed, TargetState::Failed),
            (RetryOn::Silent, TargetState::Silent),
            (RetryOn::Undeliverable, TargetState::Undeliverable),
        ]
        .into_iter()
        .filter(|(on, _)| self.retry_on.contains(on))
        .map(|(_, state)| state)
        .collect()
    }

    /// Gives how long an order has to live.
    fn check_times(&self, now: UnixMillis) -> Result<Duration, Fail> {
        let in_the_past = |option: &str, at: UnixMillis| {
            Fail::usage(format!("{option} {at} is past: it is {now} now")).next("name a time that is to come")
        };
        for (option, at) in
            [("--send-at", self.send_at), ("--install-at", self.install_at), ("--expires", self.expires)]
        {
            if let Some(at) = at.filter(|at| *at <= now) {
                return Err(in_the_past(option, at));
            }
        }
        let begin = self.send_at.unwrap_or(now);
        if let Some(at) = self.install_at.filter(|at| *at < begin) {
            return Err(Fail::usage(format!("--install-at {at} is before --send-at {begin}"))
                .next("agents can install only what was mailed before"));
        }
        let latest = self.install_at.unwrap_or(begin);
        if let Some(at) = self.expires.filter(|at| *at <= latest) {
            return Err(Fail::usage(format!("--expires {at} is not after {latest}, when it may begin"))
                .next("leave room for the install, at least as long as its settle time"));
        }
        let defer = self.defer_max.unwrap_or_default();
        let needed =
            latest.since(begin).saturating_add(AFTER_INSTALL_TIME).saturating_add(defer).max(ORDER_LIFE);
        let life = self.expires.map_or(needed, |at| at.since(begin).min(needed));
        if life > ORDER_LIFE_MAX {
            return Err(Fail::usage(format!(
                "these times need an order that lives for {}, expected at most {}",
                show::duration(life),
                show::duration(ORDER_LIFE_MAX)
            ))
            .next("mail it later (--send-at), or let it be put off for a shorter time (--defer-max)"));
        }
        Ok(life)
    }
}
