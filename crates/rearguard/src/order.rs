//! Sorting a few things without the standard library's sort, which costs ten kilobytes in every executable.

/// Sorts in place, stable, in time proportional to the square of the length: for lists that a limit keeps short.
pub(crate) fn insertion_sort<T: Ord>(items: &mut [T]) {
    for end in 1..items.len() {
        let mut at = end;
        while at > 0 && items.get(at) < items.get(at - 1) {
            items.swap(at, at - 1);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: any order becomes ascending.
    #[test]
    fn sorts() {
        let mut items = [5, 1, 4, 1, 5, 9, 2, 6];
        insertion_sort(&mut items);
        assert_eq!(items, [1, 1, 2, 4, 5, 5, 6, 9]);
        insertion_sort::<u8>(&mut []);
    }
}
