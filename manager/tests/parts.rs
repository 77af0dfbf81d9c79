//! Bundles that do not fit one mail (PROTOCOL 17), over a spool: every part once, what agents ask for and no more, in one mail for
//! all who lack it, and ways that turn out to be narrow.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod office;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mailio::{Disposal, Mailbox};
use manager_core::{CampaignId, TargetState};
use office::{Box7, Office};
use shared::envelope::{Brings, Header, RawHead, check_body, check_part, open_body};
use shared::message::{
    Budget, Line, Order, PartsWanted, Progress, Report, Reported, Step, VersionReport, Versions, WaitReason,
    Waiting, decode_order,
};
use shared::{EnvelopeId, Span, Spans};

/// Mails of at most 100 kB, so that parts have 60 kB.
const SETTINGS: &str = "mail_max_bytes = 100000\nretry_min = \"1s\"\n";
const BUNDLE_BYTES: usize = 400_000;

fn office() -> Office {
    let office = Office::new();
    set(&office, SETTINGS);
    office
}

fn set(office: &Office, settings: &str) {
    let config = office.home.config_path();
    let text = std::fs::read_to_string(&config).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with("mail_max_bytes")).collect::<Vec<_>>().join("\n");
    std::fs::write(&config, format!("{kept}\n{settings}")).unwrap();
}

/// What has come to a box of an order.
#[derive(Default)]
struct Gathered {
    header: Option<Header>,
    head: Option<RawHead>,
    body: Vec<u8>,
    held: Spans,
    /// Mails with parts, and heads alone.
    parts: usize,
    heads: usize,
}

/// Takes all parts out of a box's mailbox; checks each by itself, as an agent does.
fn gather(office: &Office, agent: &Box7, gathered: &mut BTreeMap<EnvelopeId, Gathered>) {
    let order_key = office.home.keys().unwrap().order.verifying_key();
    let mut mailbox = Mailbox::new(agent.settings.clone());
    office.runtime.block_on(async {
        for found in mailbox.look(100).await.unwrap() {
            let mut bytes = Vec::new();
            assert!(found.size <= 100_000, "a mail of {} bytes", found.size);
            mailbox.fetch(&found.key, 1 << 30, &mut bytes).await.unwrap();
            let mut rest = bytes.as_slice();
            let (_, head) = RawHead::read_introduced(&mut rest).unwrap();
            let header = head.verify(&order_key).unwrap();
            header.open_slot(&agent.open, head.sender()).unwrap();
            let of = gathered.entry(header.id).or_default();
            match head.brings(&header).unwrap() {
                Brings::Part(span, info) => {
                    check_part(&info, &mut &*rest).unwrap();
                    let [from, until] = [span.from, span.until].map(|at| usize::try_from(at).unwrap());
                    of.body.resize(usize::try_from(header.body_bytes).unwrap(), 0);
                    of.body[from..until].copy_from_slice(rest);
                    assert!(of.held.add(span));
                    of.parts += 1;
                }
                Brings::Nothing => of.heads += 1,
                Brings::Whole => {}
            }
            (of.header, of.head) = (Some(header), Some(head));
            mailbox.dispose(&[(found.key, Disposal::Done)]).await.unwrap();
        }
    });
}

impl Gathered {
    fn missing(&self) -> Spans {
        self.held.missing(self.header.as_ref().unwrap().body_bytes)
    }

    /// The order that the parts are.
    fn order(&self, agent: &Box7) -> Order {
        let (header, head) = (self.header.as_ref().unwrap(), self.head.as_ref().unwrap());
        check_body(header, &mut self.body.as_slice()).unwrap();
        let key = header.open_slot(&agent.open, head.sender()).unwrap();
        decode_order(&open_body(header, &key, self.body.as_slice()).unwrap().0).unwrap()
    }
}

fn order_of(office: &Office, id: CampaignId, agent: &Box7) -> EnvelopeId {
    office.store().read(|tx| tx.campaign(id)).unwrap().unwrap().targets[&agent.id].order().unwrap()
}

fn ask(office: &Office, agent: &mut Box7, order: EnvelopeId, gathered: &Gathered, missing: &[Span]) {
    let body_bytes = gathered.header.as_ref().unwrap().body_bytes;
    let mut spans = Spans::default();
    missing.iter().for_each(|span| assert!(spans.add(*span)));
    agent.report(office, &Report::Parts(PartsWanted { order, body_bytes, missing: spans, here: None }));
}

/// True if something of an order is still to be mailed to an agent.
fn waits_for_mail(office: &Office, order: EnvelopeId, agent: &Box7) -> bool {
    office.store().read(|tx| tx.parts_of(order, &agent.id)).unwrap().unwrap().mailing
        == mailfleet::store::Mailing::Queued
}

/// Lets the daemon work until so many mails went out; fails if none does.
fn pass_until_mailed(office: &Office) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mails = office.pass().mails_out;
        if mails > 0 {
            return mails;
        }
        assert!(Instant::now() < deadline, "nothing is mailed: {}", office.log());
    }
}

/// A campaign whose parts have come to all agents.
fn mailed(
    office: &Office,
    count: usize,
) -> (Vec<Box7>, CampaignId, EnvelopeId, BTreeMap<EnvelopeId, Gathered>) {
    let agents = office.enrolled(count);
    let id = office.campaign(&agents, BUNDLE_BYTES);
    office.pass();
    let order = order_of(office, id, &agents[0]);
    let mut all = BTreeMap::new();
    gather(office, &agents[0], &mut all);
    for other in &agents[1..] {
        let mut its = BTreeMap::new();
        gather(office, other, &mut its);
        assert_eq!(its[&order].body, all[&order].body, "the same bytes for everyone");
    }
    (agents, id, order, all)
}

#[test]
fn a_bundle_that_does_not_fit_one_mail_goes_out_in_parts_for_all_agents() {
    let office = office();
    let agents = office.enrolled(3);
    let id = office.campaign(&agents, BUNDLE_BYTES);
    let pass = office.pass();
    assert_eq!(pass.mails_out, 7, "seven parts, each for all three");
    let order = order_of(&office, id, &agents[0]);
    for agent in &agents {
        let mut gathered = BTreeMap::new();
        gather(&office, agent, &mut gathered);
        let of = &gathered[&order];
        assert_eq!((of.parts, of.heads, gathered.len()), (7, 0, 1));
        let Order::Install(install) = of.order(agent) else { panic!() };
        assert_eq!(install.bundle_bytes, BUNDLE_BYTES as u64);
        assert_eq!(office.target(id, agent).0, TargetState::Mailed);
    }
    office.pass();
    for agent in &agents {
        let mut again = BTreeMap::new();
        gather(&office, agent, &mut again);
        assert!(!again.contains_key(&order), "a part was mailed twice");
    }
}

#[test]
fn what_several_agents_lack_goes_out_once_and_nothing_else() {
    let office = office();
    let (mut agents, id, order, all) = mailed(&office, 3);
    let part =
        |n: u64| Span { from: n * 61_440, until: ((n + 1) * 61_440).min(all[&order].body.len() as u64) };
    let waiting = Waiting { reason: WaitReason::PartsMissing, until: mailfleet::system::now(), about: None };
    let progress = Report::Progress(Progress { order, step: Step::Waiting(waiting) });
    for agent in &mut agents {
        agent.report(&office, &progress);
    }
    ask(&office, &mut agents[0], order, &all[&order], &[part(2), part(5)]);
    // In bytes, and so also across the borders of parts.
    ask(
        &office,
        &mut agents[1],
        order,
        &all[&order],
        &[Span { from: part(5).from + 1, until: part(6).from + 1 }],
    );
    office.pass();
    let campaign = office.store().read(|tx| tx.campaign(id)).unwrap().unwrap();
    let target = &campaign.targets[&agents[0].id];
    assert_eq!(target.state, TargetState::Deferred);
    let waiting = target.waiting.clone().unwrap();
    assert_eq!(waiting.to_string(), "parts are on their way (0.2 of 0.4 MB are here)");

    assert_eq!(pass_until_mailed(&office), 3, "parts 2, 5 and 6");
    for (agent, parts) in agents.iter().zip([vec![2, 5], vec![5, 6], vec![]]) {
        let mut again = BTreeMap::new();
        gather(&office, agent, &mut again);
        let mut held = Spans::default();
        parts.iter().for_each(|n| assert!(held.add(part(*n))));
        assert_eq!(again.remove(&order).unwrap_or_default().held, held, "{}", agent.id);
    }
    // Who has all of it is mailed no more, whatever he has asked before.
    ask(&office, &mut agents[2], order, &all[&order], &[part(1)]);
    agents[2].report(&office, &Report::Progress(Progress { order, step: Step::Received }));
    office.pass();
    assert_eq!(office.target(id, &agents[2]).0, TargetState::Received);
    assert!(!waits_for_mail(&office, order, &agents[2]));
}

#[test]
fn parts_of_an_order_that_was_called_back_or_never_was_are_not_mailed() {
    let office = office();
    let (mut agents, id, order, all) = mailed(&office, 2);
    ask(&office, &mut agents[0], EnvelopeId([7; 16]), &all[&order], &[Span { from: 0, until: 9 }]);
    ask(&office, &mut agents[0], order, &all[&order], &[Span { from: 0, until: 9 }]);
    office.pass();
    office
        .store()
        .write(|tx| {
            let mut campaign = tx.campaign(id)?.unwrap();
            campaign.cancel();
            for (agent, target) in &campaign.targets {
                tx.save_target(id, agent, target)?;
            }
            tx.drop_queued(id, &agents.iter().map(|agent| agent.id.clone()).collect::<Vec<_>>())?;
            tx.save_campaign(&campaign)
        })
        .unwrap();
    ask(&office, &mut agents[1], order, &all[&order], &[Span { from: 0, until: 9 }]);
    office.pass();
    for agent in &agents {
        assert!(!waits_for_mail(&office, order, agent), "{}: {}", agent.id, office.log());
    }
    assert!(office.log().contains("asks for parts of an order that counts no more"), "{}", office.log());
}

#[test]
fn an_operators_retry_asks_what_is_missing_before_it_sends_anything() {
    let office = office();
    let (agents, id, order, all) = mailed(&office, 2);
    office
        .store()
        .write(|tx| {
            let mut campaign = tx.campaign(id)?.unwrap();
            for target in campaign.targets.values_mut() {
                target.state = TargetState::Silent;
            }
            campaign.retry();
            for (agent, target) in &campaign.targets {
                tx.save_target(id, agent, target)?;
            }
            tx.save_campaign(&campaign)
        })
        .unwrap();
    assert_eq!(pass_until_mailed(&office), 1);
    let again_order = order_of(&office, id, &agents[0]);
    assert_ne!(again_order, order);
    let mut agents = agents;
    for agent in &mut agents {
        let mut again = BTreeMap::new();
        gather(&office, agent, &mut again);
        let of = &again[&again_order];
        assert_eq!((of.parts, of.heads), (0, 1));
        let (header, first) = (of.header.as_ref().unwrap(), all[&order].header.as_ref().unwrap());
        assert_eq!((header.body_digest, &header.parts), (first.body_digest, &first.parts), "the same parts");
        assert_eq!(of.missing(), Spans::all(first.body_bytes));
    }
    ask(&office, &mut agents[0], again_order, &all[&order], &[Span { from: 0, until: 1 }]);
    office.pass();
    assert_eq!(pass_until_mailed(&office), 1);
}

#[test]
fn a_way_that_became_narrow_gets_smaller_parts_of_what_is_still_to_go() {
    let office = office();
    let (mut agents, _, order, all) = mailed(&office, 1);
    // The relay takes less from now on, as the operator has learned.
    set(&office, "mail_max_bytes = 70000\n");
    ask(&office, &mut agents[0], order, &all[&order], &[Span { from: 100_000, until: 140_000 }]);
    office.pass();
    pass_until_mailed(&office);
    let mut again = BTreeMap::new();
    gather(&office, &agents[0], &mut again);
    let of = &again[&order];
    assert!(of.held.has(Span { from: 100_000, until: 140_000 }));
    let mut joined = all[&order].body.clone();
    let header = of.header.as_ref().unwrap();
    assert!(header.parts.len() > 7, "another cut");
    let whole = Spans::all(header.body_bytes).missing(header.body_bytes);
    assert!(whole.is_empty());
    joined[100_000..140_000].copy_from_slice(&of.body[100_000..140_000]);
    check_body(header, &mut joined.as_slice()).unwrap();
}

#[test]
fn an_agent_that_asks_without_end_is_answered_so_often_a_day() {
    let office = office();
    let (mut agents, _, order, all) = mailed(&office, 1);
    for _ in 0..26 {
        ask(&office, &mut agents[0], order, &all[&order], &[Span { from: 0, until: 1 }]);
    }
    office.pass();
    let log = office.log();
    assert_eq!(log.matches("asks for 1 bytes of an order again").count(), 24, "{log}");
    assert_eq!(log.matches("asks for parts too often").count(), 2, "{log}");
}

#[test]
fn a_bounce_that_says_too_big_makes_mails_to_that_domain_smaller() {
    let office = office();
    let (agents, _, order, _) = mailed(&office, 2);
    let bounce = |n: u32| {
        let status = format!(
            "Reporting-MTA: dns; mail.lab.test\r\nOriginal-Envelope-Id: {}\r\n\r\n\
             Final-Recipient: rfc822; {}\r\nAction: failed\r\nStatus: 5.3.4\r\n\
             Diagnostic-Code: smtp; 552 5.3.4 Message size exceeds fixed limit\r\n",
            order.to_hex(),
            agents[0].mail
        );
        let mail = format!(
            "Return-Path: <>\r\nFrom: MAILER-DAEMON@lab.test\r\nTo: manager@lab.test\r\nSubject: Undelivered Mail\r\n\
             Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n--b--\r\n"
        );
        std::fs::write(office.spool().join("manager@lab.test/new").join(format!("bounce-{n:04}")), mail)
            .unwrap();
    };
    // Each of the seven parts comes back.
    (0..7).for_each(bounce);
    office.pass();
    let path = office.store().read(|tx| tx.path("LAB.test")).unwrap();
    let limit = path.mail_max_bytes(u64::MAX, mailfleet::system::now());
    assert_eq!(limit, 65_536, "half of 100 kB is less than what every server takes");
    // Nobody knows which parts have come: the agent is asked.
    let mut again = BTreeMap::new();
    gather(&office, &agents[0], &mut again);
    assert_eq!((again[&order].heads, again[&order].parts), (1, 0));
}

/// Says that the line of a box carries so many bytes a day.
fn has_budget(office: &Office, agent: &mut Box7, day_bytes: u64) {
    let budget = Budget { day_bytes: Some(day_bytes), ..Budget::default() };
    let line = Some(Line { budget: Some(budget), ..Line::default() });
    let versions = VersionReport { line, ..office::versions(Reported::Nothing) };
    agent.report(office, &Report::Versions(Versions { query: None, versions }));
    office.pass();
}

#[test]
fn to_a_line_with_a_budget_goes_the_head_and_then_what_is_asked_for() {
    let office = office();
    let mut agents = office.enrolled(2);
    has_budget(&office, &mut agents[0], 4_000_000);
    let id = office.campaign(&agents, BUNDLE_BYTES);
    let pass = office.pass();
    assert_eq!(pass.mails_out, 8, "a head, and seven parts for the other");
    let order = order_of(&office, id, &agents[0]);
    let (mut announced, mut sent) = (BTreeMap::new(), BTreeMap::new());
    gather(&office, &agents[0], &mut announced);
    gather(&office, &agents[1], &mut sent);
    assert_eq!((announced[&order].heads, announced[&order].parts, sent[&order].parts), (1, 0, 7));
    let sizes = |of: &Gathered| of.header.as_ref().unwrap().parts.len();
    assert_eq!(sizes(&announced[&order]), 7, "the head says what there is");

    let waiting = Waiting {
        reason: WaitReason::Budget,
        until: mailfleet::system::now().plus(Duration::from_secs(3_600)),
        about: None,
    };
    agents[0].report(&office, &Report::Progress(Progress { order, step: Step::Waiting(waiting) }));
    office.pass();
    assert_eq!(office.target(id, &agents[0]).0, TargetState::Deferred);
    let body_bytes = announced[&order].header.as_ref().unwrap().body_bytes;
    let (mut missing, part) = (Spans::default(), Span { from: 61_440, until: 122_880 });
    assert!(missing.add(part));
    agents[0].report(&office, &Report::Parts(PartsWanted { order, body_bytes, missing, here: Some(61_440) }));
    office.pass();
    let campaign = office.store().read(|tx| tx.campaign(id)).unwrap().unwrap();
    let waiting = campaign.targets[&agents[0].id].waiting.clone().unwrap();
    assert_eq!(waiting.to_string(), "parts are on their way (0.0 of 0.4 MB are here)");
    assert_eq!(pass_until_mailed(&office), 1);
    gather(&office, &agents[0], &mut announced);
    let mut held = Spans::default();
    assert!(held.add(part));
    assert_eq!(announced[&order].held, held, "what was asked for, and nothing else");
}

#[test]
fn what_fits_one_mail_is_announced_to_a_line_with_a_budget_as_well() {
    let office = office();
    set(&office, "mail_max_bytes = 1000000\n");
    let mut agents = office.enrolled(2);
    has_budget(&office, &mut agents[0], 4_000_000);
    let id = office.campaign(&agents, 50_000);
    office.pass();
    let order = order_of(&office, id, &agents[0]);
    let mut gathered = BTreeMap::new();
    gather(&office, &agents[0], &mut gathered);
    assert_eq!((gathered[&order].heads, gathered[&order].parts), (1, 0));
    let missing = [Span { from: 0, until: gathered[&order].header.as_ref().unwrap().body_bytes }];
    ask(&office, &mut agents[0], order, &gathered[&order], &missing);
    office.pass();
    assert_eq!(pass_until_mailed(&office), 2, "in two parts");
    gather(&office, &agents[0], &mut gathered);
    assert!(matches!(gathered[&order].order(&agents[0]), Order::Install(_)));
}
