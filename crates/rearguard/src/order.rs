//! Sorting without the standard library's sort, which costs ten kilobytes in every executable.

/// Sorts in place by a text of each item, by a heap: in time proportional to n log n, and not stable.
pub(crate) fn sort_by<T>(items: &mut [T], text: impl Fn(&T) -> &str) {
    sort_places(items.len(), &mut |question| match question {
        Question::IsLess(one, other) => {
            let (Some(one), Some(other)) = (items.get(one), items.get(other)) else { return false };
            text(one) < text(other)
        }
        Question::Swap(one, other) => {
            items.swap(one, other);
            true
        }
    });
}

/// What a sort asks of those that it knows by their places alone, so that there is one for all kinds of items.
enum Question {
    IsLess(usize, usize),
    Swap(usize, usize),
}

#[inline(never)]
fn sort_places(count: usize, ask: &mut dyn FnMut(Question) -> bool) {
    for top in (0..count / 2).rev() {
        sink(top, count, ask);
    }
    for end in (1..count).rev() {
        ask(Question::Swap(0, end));
        sink(0, end, ask);
    }
}

/// Lets an item sink until nothing below it in the heap of the first `count` is larger.
fn sink(mut top: usize, count: usize, ask: &mut dyn FnMut(Question) -> bool) {
    loop {
        let mut larger = 2 * top + 1;
        if larger >= count {
            return;
        }
        if larger + 1 < count && ask(Question::IsLess(larger, larger + 1)) {
            larger += 1;
        }
        if !ask(Question::IsLess(top, larger)) {
            return;
        }
        ask(Question::Swap(top, larger));
        top = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: any order becomes ascending.
    #[test]
    fn sorts() {
        for count in 0..200_u32 {
            let mut items: Vec<(String, u32)> =
                (0..count).map(|at| (at.wrapping_mul(0x9e37_79b9).to_string(), at)).collect();
            let mut expected = items.clone();
            expected.sort_unstable();
            sort_by(&mut items, |item| &item.0);
            assert_eq!(items, expected);
        }
    }
}
