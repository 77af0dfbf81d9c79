//! Fetching against devices that stumble, without a network.

use std::cell::RefCell;
use std::sync::Mutex;
use std::time::Duration;

use super::*;

/// A device of rows, with a rule that may break a request.
struct Fake<F> {
    rows: Rows,
    names: Vec<Oid>,
    has_bulk: bool,
    breaks: F,
    asked: Mutex<Vec<(&'static str, usize)>>,
}

impl<F: Fn(&str, &[Oid]) -> Option<AskFault> + Sync> Fake<F> {
    fn new(columns: &[(&str, u32)], breaks: F) -> Self {
        let mut rows = Rows::default();
        let mut names = Vec::new();
        for (column, count) in columns {
            for index in 1..=*count {
                let name = Oid::parse(column).unwrap().with(&[index]);
                rows.insert(name.clone(), Value::Number(index.into()));
                names.push(name);
            }
        }
        names.sort();
        Self { rows, names, has_bulk: true, breaks, asked: Mutex::default() }
    }

    fn after(&self, oid: &Oid) -> Answer {
        match self.names.iter().find(|name| *name > oid) {
            Some(name) => Answer { oid: name.clone(), value: self.rows.get(name).cloned() },
            None => Answer { oid: oid.clone(), value: None },
        }
    }

    fn count(&self, kind: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| *asked == kind).count()
    }
}

impl<F: Fn(&str, &[Oid]) -> Option<AskFault> + Sync> Ask for Fake<F> {
    async fn single(&self, how: How, objects: &[Oid]) -> Result<Vec<Answer>, AskFault> {
        let kind = if how == How::Get { "get" } else { "next" };
        self.asked.lock().unwrap().push((kind, objects.len()));
        if let Some(fault) = (self.breaks)(kind, objects) {
            return Err(fault);
        }
        let get = |oid: &Oid| Answer { oid: oid.clone(), value: self.rows.get(oid).cloned() };
        Ok(objects.iter().map(|oid| if how == How::Get { get(oid) } else { self.after(oid) }).collect())
    }

    async fn bulk(&self, objects: &[Oid], repetitions: u32) -> Result<Vec<Answer>, AskFault> {
        self.asked.lock().unwrap().push(("bulk", usize::try_from(repetitions).unwrap()));
        if let Some(fault) = (self.breaks)("bulk", objects) {
            return Err(fault);
        }
        let at = RefCell::new(objects.to_vec());
        let round = |_| {
            let mut at = at.borrow_mut();
            let answers: Vec<Answer> = at.iter().map(|oid| self.after(oid)).collect();
            at.clone_from_slice(&answers.iter().map(|answer| answer.oid.clone()).collect::<Vec<_>>());
            answers
        };
        Ok((0..repetitions).flat_map(round).collect())
    }

    fn has_bulk(&self) -> bool {
        self.has_bulk
    }
}

fn soon() -> Instant {
    Instant::now().checked_add(Duration::from_secs(60)).unwrap()
}

fn oid(text: &str) -> Oid {
    Oid::parse(text).unwrap()
}

fn gen_err(index: usize) -> AskFault {
    AskFault::Object { index, status: ObjectStatus::Other("genErr".to_owned()) }
}

const A: &[u32] = &[1, 3, 1];
const B: &[u32] = &[1, 3, 2];

#[tokio::test]
async fn two_columns_of_forty_rows_take_few_requests() {
    let fake = Fake::new(&[("1.3.1", 40), ("1.3.2", 40), ("1.3.3", 9)], |_, _| None);
    let mut fetch = Fetch::new(&fake, soon());
    fetch.columns("table", &[A, B]).await.unwrap();
    assert_eq!((fetch.rows().column(A).count(), fetch.rows().column(B).count()), (40, 40));
    assert!(!fetch.rows().has(&[1, 3, 3]), "what lies behind a column is not kept");
    assert_eq!(fake.count("bulk"), 4);
    assert_eq!(fetch.requests(), 4);
}

#[tokio::test]
async fn too_long_answers_make_all_later_ones_shorter() {
    let too_big = |kind: &str, _: &[Oid]| {
        (kind == "bulk").then_some(AskFault::Object { index: 0, status: ObjectStatus::TooBig })
    };
    let fake = Fake::new(&[("1.3.1", 3), ("1.3.2", 3)], too_big);
    let mut fetch = Fetch::new(&fake, soon());
    fetch.columns("one", &[A]).await.unwrap();
    fetch.columns("other", &[B]).await.unwrap();
    assert_eq!(fetch.rows().column(B).count(), 3);
    // 25, then 10, then never again.
    assert_eq!(fake.count("bulk"), 2);
    assert!(fetch.finish().1.is_empty());
}

#[tokio::test]
async fn one_broken_cell_costs_the_rest_of_its_column_only() {
    let bad = oid("1.3.1.5");
    let breaks = move |kind: &str, objects: &[Oid]| {
        let at = objects.iter().position(|object| *object == bad)?;
        (kind == "next" || kind == "bulk").then(|| gen_err(at.checked_add(1).unwrap()))
    };
    let fake = Fake::new(&[("1.3.1", 9), ("1.3.2", 9)], breaks);
    let mut fetch = Fetch::new(&fake, soon());
    fetch.columns("table", &[A, B]).await.unwrap();
    assert_eq!((fetch.rows().column(A).count(), fetch.rows().column(B).count()), (9, 9));
    // Only where the walk stands on the bad cell itself is it asked; GETBULK jumped over it.
    let next_only = Fake { has_bulk: false, ..fake };
    let mut fetch = Fetch::new(&next_only, soon());
    fetch.columns("table", &[A, B]).await.unwrap();
    assert_eq!((fetch.rows().column(A).count(), fetch.rows().column(B).count()), (5, 9));
    assert_eq!((fetch.is_unread(A), fetch.is_unread(B)), (true, false));
    let (_, left_out) = fetch.finish();
    assert_eq!(left_out, ["table, column 1.3.1 after 1.3.1.5: genErr"]);
}

/// A device that breaks at whatever follows an object.
fn breaks_after(last: &str) -> impl Fn(&str, &[Oid]) -> Option<AskFault> + Sync {
    let last = oid(last);
    move |kind: &str, objects: &[Oid]| {
        let at = objects.iter().position(|object| *object == last)?;
        (kind != "get").then(|| gen_err(at.checked_add(1).unwrap()))
    }
}

#[tokio::test]
async fn a_column_that_breaks_where_the_others_end_has_ended() {
    for has_bulk in [true, false] {
        let fake = Fake::new(&[("1.3.1", 4), ("1.3.2", 4)], breaks_after("1.3.2.4"));
        let fake = Fake { has_bulk, ..fake };
        let mut fetch = Fetch::new(&fake, soon());
        fetch.columns("table", &[A, B]).await.unwrap();
        assert_eq!((fetch.rows().column(A).count(), fetch.rows().column(B).count()), (4, 4));
        assert!(!fetch.is_unread(B));
        assert!(fetch.finish().1.is_empty());
    }
}

#[tokio::test]
async fn a_column_that_breaks_before_the_others_end_or_beside_none_is_not_read() {
    const OF_ANOTHER: &[u32] = &[1, 4, 1];
    for (a, b) in [(6, 4), (3, 4), (0, 4)] {
        let fake = Fake::new(&[("1.3.1", a), ("1.3.2", b)], breaks_after("1.3.2.4"));
        let fake = Fake { has_bulk: false, ..fake };
        let mut fetch = Fetch::new(&fake, soon());
        fetch.columns("table", &[A, B]).await.unwrap();
        assert!(fetch.is_unread(B), "{a} rows beside {b}");
    }
    let fake = Fake::new(&[("1.3.2", 4), ("1.4.1", 4)], breaks_after("1.3.2.4"));
    let fake = Fake { has_bulk: false, ..fake };
    let mut fetch = Fetch::new(&fake, soon());
    fetch.columns("alone", &[B, OF_ANOTHER]).await.unwrap();
    assert!(fetch.is_unread(B), "another table says nothing of this one");
}

#[tokio::test]
async fn missing_objects_of_version_1_cost_only_themselves() {
    let missing = [oid("1.3.9.0"), oid("1.3.8.0")];
    let breaks = move |_: &str, objects: &[Oid]| {
        let at = objects.iter().position(|object| missing.contains(object))?;
        Some(AskFault::Object { index: at.checked_add(1)?, status: ObjectStatus::None })
    };
    let fake = Fake::new(&[("1.3.1", 2)], breaks);
    let mut fetch = Fetch::new(&fake, soon());
    fetch.objects(&[oid("1.3.9.0"), oid("1.3.1.1"), oid("1.3.8.0"), oid("1.3.1.2")]).await.unwrap();
    assert_eq!(fetch.rows().column(A).count(), 2);
    assert!(!fetch.is_unread(&[1, 3]), "what a device lacks was read");
    assert!(fetch.finish().1.is_empty(), "what a device lacks is not left out");
}

#[tokio::test]
async fn an_error_without_an_index_is_found_by_halves() {
    let bad = oid("1.3.1.3");
    let breaks = move |_: &str, objects: &[Oid]| objects.contains(&bad).then(|| gen_err(0));
    let fake = Fake::new(&[("1.3.1", 8)], breaks);
    let mut fetch = Fetch::new(&fake, soon());
    let all: Vec<Oid> = (1..=8).map(|index| Oid::new(A).with(&[index])).collect();
    fetch.objects(&all).await.unwrap();
    assert_eq!(fetch.rows().column(A).count(), 7);
    assert!(fetch.is_unread(A));
    let (_, left_out) = fetch.finish();
    assert_eq!(left_out, ["1.3.1.3: genErr"]);
}

#[tokio::test]
async fn a_table_is_cut_at_its_ceiling() {
    let fake = Fake::new(&[("1.3.1", 5_000)], |_, _| None);
    let mut fetch = Fetch::new(&fake, soon());
    fetch.columns("table", &[A]).await.unwrap();
    assert_eq!(fetch.rows().column(A).count(), COLUMN_ROWS_MAX_COUNT);
    assert!(fetch.is_unread(A));
    assert!(fetch.finish().1[0].contains("rows past"));
}

#[tokio::test]
async fn nothing_is_asked_when_the_time_is_over() {
    let fake = Fake::new(&[("1.3.1", 5)], |_, _| None);
    let mut fetch = Fetch::new(&fake, Instant::now());
    assert_eq!(fetch.columns("table", &[A]).await, Err(AskFault::Silent));
    assert!(fetch.is_late());
    assert_eq!(fake.count("bulk"), 0);
}

#[tokio::test]
async fn a_request_is_not_waited_for_past_the_end_of_the_time() {
    struct Hangs;
    impl Ask for Hangs {
        async fn single(&self, _: How, _: &[Oid]) -> Result<Vec<Answer>, AskFault> {
            std::future::pending().await
        }
        async fn bulk(&self, _: &[Oid], _: u32) -> Result<Vec<Answer>, AskFault> {
            std::future::pending().await
        }
        fn has_bulk(&self) -> bool {
            true
        }
    }
    let deadline = Instant::now().checked_add(Duration::from_millis(30)).unwrap();
    let mut fetch = Fetch::new(&Hangs, deadline);
    assert_eq!(fetch.columns("table", &[A]).await, Err(AskFault::Silent));
    assert_eq!(fetch.requests(), 1);
}

#[tokio::test]
async fn a_refusal_ends_everything_at_once() {
    let fake = Fake::new(&[("1.3.1", 5)], |_, _| Some(AskFault::Refused("no".to_owned())));
    let mut fetch = Fetch::new(&fake, soon());
    assert_eq!(fetch.columns("table", &[A]).await, Err(AskFault::Refused("no".to_owned())));
    assert_eq!(fetch.requests(), 1);
}
