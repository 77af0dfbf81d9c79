//! When a supply runs out: a line through its levels since it was filled last. Levels that are no numbers say nothing,
//! and nothing is said from less than a day.

use core::time::Duration;

use shared::UnixMillis;

/// A level at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When it was read.
    pub at: UnixMillis,
    /// The level, in the supply's unit.
    pub level: u32,
}

/// How a supply is used up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// How much goes in a day, in the supply's unit; more than 0.
    pub per_day: f64,
    /// When nothing is left at that rate.
    pub runs_out_at: UnixMillis,
}

/// Shorter than this, one job looks like a habit.
const SPAN_MIN: Duration = Duration::from_secs(24 * 3600);

/// A level that rises by more than one part in so many of the highest was filled up; less is the sensor.
const REFILL_PART: u32 = 20;

const DAY_S: f64 = 86_400.0;

/// The trend of levels in the order of their times; `None`: too few, too short, or nothing goes.
#[must_use]
pub fn trend(points: &[Point]) -> Option<Trend> {
    let points = since_refill(points);
    let (first, last) = (points.first()?, points.last()?);
    if last.at.since(first.at) < SPAN_MIN {
        return None;
    }
    let per_day = -slope(points, first.at)?;
    if per_day <= f64::EPSILON {
        return None;
    }
    let left = Duration::try_from_secs_f64(f64::from(last.level) / per_day * DAY_S).ok()?;
    Some(Trend { per_day, runs_out_at: last.at.plus(left) })
}

/// What comes after the last time that it was filled up.
fn since_refill(points: &[Point]) -> &[Point] {
    let most = points.iter().map(|point| point.level).max().unwrap_or(0);
    let step = most.checked_div(REFILL_PART).unwrap_or(0).max(1);
    let filled = |pair: &[Point]| match pair {
        [before, after] => after.level > before.level.saturating_add(step),
        _ => false,
    };
    let from = points.windows(2).rposition(filled).map_or(0, |at| at.saturating_add(1));
    points.get(from..).unwrap_or_default()
}

/// Units a day, by least squares.
fn slope(points: &[Point], from: UnixMillis) -> Option<f64> {
    let count = f64::from(u32::try_from(points.len()).ok()?);
    let at = |point: &Point| point.at.since(from).as_secs_f64() / DAY_S;
    let mean_at = points.iter().map(at).sum::<f64>() / count;
    let mean_level = points.iter().map(|point| f64::from(point.level)).sum::<f64>() / count;
    let (mut over, mut under) = (0.0, 0.0);
    for point in points {
        let off = at(point) - mean_at;
        over += off * (f64::from(point.level) - mean_level);
        under += off * off;
    }
    (under > 0.0).then(|| over / under)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_MS: i64 = 86_400_000;

    fn days(levels: &[u32]) -> Vec<Point> {
        let at = |day: usize| UnixMillis(i64::try_from(day).unwrap() * DAY_MS);
        levels.iter().enumerate().map(|(day, level)| Point { at: at(day), level: *level }).collect()
    }

    #[test]
    fn a_steady_use_runs_out_on_the_day_that_arithmetic_says() {
        let trend = trend(&days(&[100, 98, 96, 94])).unwrap();
        assert!((trend.per_day - 2.0).abs() < 1e-9);
        assert_eq!(trend.runs_out_at, UnixMillis((3 + 47) * DAY_MS));
    }

    #[test]
    fn a_refill_begins_anew_and_a_trembling_sensor_does_not() {
        let filled = trend(&days(&[8, 5, 2, 100, 99, 98])).unwrap();
        assert!((filled.per_day - 1.0).abs() < 1e-9);
        let trembles = trend(&days(&[50, 48, 49, 46, 44])).unwrap();
        assert!(trembles.per_day > 1.0, "{trembles:?}");
    }

    #[test]
    fn little_knowledge_says_nothing() {
        assert_eq!(trend(&[]), None);
        assert_eq!(trend(&days(&[50])), None);
        assert_eq!(trend(&days(&[50, 50, 50])), None);
        let minutes = [Point { at: UnixMillis(0), level: 50 }, Point { at: UnixMillis(60_000), level: 49 }];
        assert_eq!(trend(&minutes), None);
        assert_eq!(trend(&days(&[2, 100])), None, "it was filled up and nothing is known since");
    }

    #[test]
    fn an_empty_supply_runs_out_when_it_was_read() {
        assert_eq!(trend(&days(&[20, 10, 0])).unwrap().runs_out_at, UnixMillis(2 * DAY_MS));
    }

    proptest! {
        #[test]
        fn no_levels_whatsoever_stop_it(levels in proptest::collection::vec((any::<i64>(), any::<u32>()), 0..50)) {
            let mut points: Vec<Point> =
                levels.into_iter().map(|(at, level)| Point { at: UnixMillis(at), level }).collect();
            points.sort_by_key(|point| point.at);
            if let Some(trend) = trend(&points) {
                prop_assert!(trend.per_day > 0.0 && trend.per_day.is_finite());
                prop_assert!(trend.runs_out_at >= points.last().unwrap().at);
            }
        }
    }
}
