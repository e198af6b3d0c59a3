//! Plans are valid, near the lower bound and deterministic; refusals are explained.

#[allow(dead_code, reason = "the benchmark uses all of it")]
mod derived_sets;

use derived_sets::{Change, challenge, derive};
use proptest::prelude::*;
use sottovoce_memory::plan::{
    self, DoesNotFit, Lifetime, Plan, PlanViolation, SolveOptions, fit, lower_bound, solve,
    validate,
};

fn lifetime(first: u32, last: u32, bytes: u64) -> Lifetime {
    Lifetime { first, last, bytes }
}

fn exact(effort: u64) -> SolveOptions {
    SolveOptions {
        alignment: 1,
        effort,
    }
}

/// The order in which the search meets equals must not decide whether it terminates.
#[test]
fn every_challenge_set_fits_its_capacity_backwards_in_time_and_order_too() {
    for name in ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K"] {
        let forwards = challenge(name);
        let end = forwards.iter().map(|lifetime| lifetime.last).max().unwrap();
        let backwards = forwards
            .iter()
            .rev()
            .map(|known| lifetime(end - known.last, end - known.first, known.bytes));
        for lifetimes in [forwards.clone(), backwards.collect()] {
            let plan = fit(&lifetimes, 1 << 20, &exact(8_000_000_000))
                .unwrap_or_else(|error| panic!("set {name}: {error}"));
            assert!(plan.peak <= 1 << 20, "set {name} needs {}", plan.peak);
            validate(&lifetimes, &plan).unwrap();
        }
    }
}

#[test]
fn sets_derived_from_a_challenge_fit_what_they_are_known_to_fit() {
    let witness = fit(
        &challenge("B"),
        derived_sets::CAPACITY,
        &exact(8_000_000_000),
    )
    .unwrap();
    let changes = [
        Change::Stretched,
        Change::Scaled,
        Change::Split,
        Change::Thinned,
    ];
    for change in changes {
        let set = derive("B", &witness.offsets, change, 0);
        let plan = fit(&set.lifetimes, set.capacity, &exact(8_000_000_000))
            .unwrap_or_else(|error| panic!("{change:?}: {error}"));
        validate(&set.lifetimes, &plan).unwrap();
        // The threads of the search do not decide which plan is found.
        let again = fit(&set.lifetimes, set.capacity, &exact(8_000_000_000)).unwrap();
        assert_eq!(plan, again, "{change:?}");
    }
}

#[test]
fn an_undecided_gap_is_reported_with_its_proven_bound() {
    // Far too little effort to decide anything.
    let error = fit(&challenge("A"), 1 << 20, &exact(1 << 10)).unwrap_err();
    assert!(error.smallest.is_empty());
    assert_eq!(error.plan.proven_bytes, error.plan.lower_bound);
    assert!(error.plan.peak > 1 << 20);
    let message = error.to_string();
    for words in [
        "its impossibility was not proven",
        "at least 1048576 bytes",
        "the best plan found",
    ] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_plan_is_the_same_each_time() {
    let lifetimes = challenge("D");
    let options = exact(1 << 24);
    assert_eq!(solve(&lifetimes, &options), solve(&lifetimes, &options));
}

#[test]
fn a_large_set_is_planned_near_its_bound() {
    // A model's run: weights that stay, then steps with a growing cache and scratch of several
    // sizes.
    let mut lifetimes: Vec<Lifetime> = (0..500)
        .map(|n| lifetime(n, 100_001, 40_000 + u64::from(n)))
        .collect();
    let mut step = 500;
    for round in 0..2_000_u64 {
        lifetimes.push(lifetime(step, step + 47, 64 * (round + 1)));
        for scratch in 0..20_u32 {
            let bytes = (round * 7919 + u64::from(scratch) * 104_729) % 60_000 + 1;
            lifetimes.push(lifetime(
                step + scratch,
                step + scratch + 3 + scratch % 5,
                bytes,
            ));
        }
        step += 25;
    }
    let plan = solve(&lifetimes, &SolveOptions::default());
    validate(&lifetimes, &plan).unwrap();
    assert!(
        plan.peak <= plan.lower_bound + plan.lower_bound / 100,
        "{} is more than 1 % above {}",
        plan.peak,
        plan.lower_bound
    );
}

#[test]
fn offsets_are_aligned() {
    let lifetimes = [lifetime(0, 5, 100), lifetime(1, 4, 1), lifetime(2, 6, 77)];
    let plan = solve(&lifetimes, &SolveOptions::default());
    validate(&lifetimes, &plan).unwrap();
    assert!(plan.offsets.iter().all(|offset| offset % 64 == 0));
    assert_eq!((plan.peak, plan.lower_bound), (320, 178));
}

#[test]
fn empty_and_tiny_sets_can_be_planned() {
    let plan = solve(&[], &SolveOptions::default());
    assert_eq!((plan.peak, plan.lower_bound), (0, 0));
    let odd = [
        lifetime(3, 3, 500),
        lifetime(5, 2, 500),
        lifetime(0, 9, 0),
        lifetime(0, u32::MAX, 8),
    ];
    let plan = solve(&odd, &SolveOptions::default());
    validate(&odd, &plan).unwrap();
    assert_eq!(plan.lower_bound, 8);
}

#[test]
fn sizes_near_64_bits_do_not_overflow() {
    let huge = [lifetime(0, 2, u64::MAX), lifetime(1, 3, u64::MAX)];
    assert_eq!(lower_bound(&huge), u64::MAX);
    let plan = solve(&huge, &SolveOptions::default());
    // No plan exists; the validator must say so instead of overflowing.
    assert!(validate(&huge, &plan).is_err());
}

#[test]
fn an_overfull_moment_is_explained_by_the_fewest_lifetimes() {
    let lifetimes = [
        lifetime(0, 9, 10),
        lifetime(1, 5, 60),
        lifetime(2, 6, 50),
        lifetime(7, 9, 90),
        lifetime(3, 4, 5),
    ];
    let DoesNotFit { smallest, plan, .. } = fit(&lifetimes, 100, &exact(1 << 20)).unwrap_err();
    assert_eq!(smallest, [1, 2]);
    validate(&lifetimes, &plan).unwrap();
}

#[test]
fn a_set_that_fits_by_sums_only_is_explained_by_an_irreducible_subset() {
    // At most 10 bytes are live at once, yet 11 are needed; the fifth and the last lifetime do not
    // matter.
    let set = [
        lifetime(6, 10, 4),
        lifetime(1, 2, 4),
        lifetime(1, 4, 2),
        lifetime(1, 5, 2),
        lifetime(0, 1, 9),
        lifetime(2, 4, 3),
        lifetime(5, 6, 3),
        lifetime(4, 7, 4),
        lifetime(3, 6, 3),
        lifetime(9, 10, 1),
    ];
    assert_eq!(lower_bound(&set), 10);
    let error = fit(&set, 10, &exact(1 << 26)).unwrap_err();
    assert_eq!(error.smallest, [0, 1, 2, 3, 5, 6, 7, 8]);
    assert_eq!(error.plan.peak, 11);
    let subset: Vec<Lifetime> = error.smallest.iter().map(|&index| set[index]).collect();
    assert!(brute_force_peak(&subset) > 10, "the subset must not fit");
    for left_out in 0..subset.len() {
        let mut fewer = subset.clone();
        fewer.remove(left_out);
        assert!(brute_force_peak(&fewer) <= 10, "none can be left out");
    }
}

/// The lowest peak of all plans: lifetimes are pushed down in every order.
fn brute_force_peak(lifetimes: &[Lifetime]) -> u64 {
    fn descend(lifetimes: &[Lifetime], placed: &mut Vec<(usize, u64)>, peak: u64, best: &mut u64) {
        if peak >= *best {
            return;
        }
        if placed.len() == lifetimes.len() {
            *best = peak;
            return;
        }
        for index in 0..lifetimes.len() {
            if placed.iter().any(|&(other, _)| other == index) {
                continue;
            }
            let offset = placed
                .iter()
                .filter(|&&(other, _)| lifetimes[other].overlaps(&lifetimes[index]))
                .map(|&(other, offset)| offset + lifetimes[other].bytes)
                .max()
                .unwrap_or(0);
            placed.push((index, offset));
            descend(
                lifetimes,
                placed,
                peak.max(offset + lifetimes[index].bytes),
                best,
            );
            placed.pop();
        }
    }
    let mut best = u64::MAX;
    descend(lifetimes, &mut Vec::new(), 0, &mut best);
    best
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_search_agrees_with_trying_every_order(
        set in prop::collection::vec((0_u32..7, 1_u32..5, 1_u64..6), 1..7)
    ) {
        let set: Vec<Lifetime> = set
            .into_iter()
            .map(|(first, steps, bytes)| lifetime(first, first + steps, bytes))
            .collect();
        let best = brute_force_peak(&set);
        let plan = fit(&set, best, &exact(1 << 26)).expect("the best peak fits");
        prop_assert!(plan.peak <= best);
        validate(&set, &plan).unwrap();
        if best > 0 {
            prop_assert!(fit(&set, best - 1, &exact(1 << 26)).is_err());
        }
        prop_assert_eq!(solve(&set, &exact(1 << 26)).peak, best);
    }

    #[test]
    fn any_set_gets_a_valid_plan(
        set in prop::collection::vec((0_u32..400, 0_u32..200, 0_u64..100_000), 0..300),
        alignment in prop::sample::select(vec![1_u64, 64, 512]),
    ) {
        let set: Vec<Lifetime> = set
            .into_iter()
            .map(|(first, steps, bytes)| lifetime(first, first + steps, bytes))
            .collect();
        let plan = solve(&set, &SolveOptions { alignment, effort: 1 << 20 });
        prop_assert_eq!(validate(&set, &plan), Ok(()));
        prop_assert!(plan.peak >= plan.lower_bound);
    }
}

fn two(offsets: Vec<u64>, peak: u64) -> Result<(), PlanViolation> {
    let lifetimes = [lifetime(0, 2, 10), lifetime(1, 3, 10)];
    let lower_bound = 20;
    validate(
        &lifetimes,
        &Plan {
            offsets,
            peak,
            lower_bound,
            proven_bytes: lower_bound,
        },
    )
}

#[test]
fn the_validator_accepts_adjacent_lifetimes() {
    assert_eq!(two(vec![0, 10], 20), Ok(()));
    assert_eq!(two(vec![10, 0], 20), Ok(()));
}

#[test]
fn the_validator_sees_a_missing_offset() {
    let expected = PlanViolation::Count {
        offsets: 1,
        lifetimes: 2,
    };
    assert_eq!(two(vec![0], 20), Err(expected));
}

#[test]
fn the_validator_sees_an_end_past_the_peak() {
    assert_eq!(
        two(vec![0, 10], 19),
        Err(PlanViolation::PastPeak { index: 1, peak: 19 })
    );
    assert_eq!(
        two(vec![0, u64::MAX], 20),
        Err(PlanViolation::PastPeak { index: 1, peak: 20 })
    );
}

#[test]
fn the_validator_sees_shared_bytes() {
    let expected = PlanViolation::Overlap {
        first: 0,
        second: 1,
    };
    for offsets in [vec![0, 0], vec![0, 9], vec![9, 0], vec![5, 6]] {
        assert_eq!(two(offsets, 40), Err(expected.clone()));
    }
}

#[test]
fn buffer_lists_are_read_with_the_line_of_an_error() {
    assert_eq!(
        plan::read_csv("id,lower,upper,size\nb1,0,3,4\n").unwrap(),
        [lifetime(0, 3, 4)]
    );
    let rows = [
        ("", "line 1"),
        ("a,b\n", "line 1"),
        ("id,lower,upper,size\n1,0,3\n", "line 2"),
        ("id,lower,upper,size\n1,0,3,4\n2,-1,3,4\n", "line 3"),
        ("id,lower,upper,size\n1,5,3,4\n", "line 2"),
        ("id,lower,upper,size\n1,0,4294967296,4\n", "line 2"),
    ];
    for (text, line) in rows {
        let error = plan::read_csv(text).unwrap_err().to_string();
        assert!(error.starts_with(line), "{error}");
    }
}
