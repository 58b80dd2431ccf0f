//! Pages of lists, bounded in rows and in bytes. At most one row more than a page is read.

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, in the list's order.
    pub rows: Vec<T>,
    /// Whether more rows follow.
    pub more: bool,
}

/// A page that is being read.
#[derive(Debug)]
pub(crate) struct Paged<T> {
    page: Page<T>,
    limit: usize,
    bytes: usize,
}

impl<T> Paged<T> {
    /// A page of at most `limit` rows and `bytes` bytes, but of one row at least.
    pub(crate) fn new(limit: usize, bytes: usize) -> Self {
        Self { page: Page { rows: Vec::new(), more: false }, limit, bytes }
    }

    /// How many rows to read: one more than the limit, to see whether more follow.
    pub(crate) fn rows_to_read(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// Adds the next row. Returns `false` if the page is full; the row then belongs to the next page.
    pub(crate) fn take(&mut self, row: T, weight: impl Fn(&T) -> usize) -> bool {
        let weight = weight(&row);
        if self.page.rows.len() >= self.limit || (weight > self.bytes && !self.page.rows.is_empty()) {
            self.page.more = true;
            return false;
        }
        self.bytes = self.bytes.saturating_sub(weight);
        self.page.rows.push(row);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.page.rows.is_empty()
    }

    pub(crate) fn end(self) -> Page<T> {
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(weights: &[usize], limit: usize, bytes: usize) -> (Vec<usize>, bool) {
        let mut paged = Paged::new(limit, bytes);
        for &weight in weights {
            if !paged.take(weight, |weight| *weight) {
                break;
            }
        }
        let page = paged.end();
        (page.rows, page.more)
    }

    #[test]
    fn a_page_ends_with_its_rows_or_its_bytes() {
        assert_eq!(page(&[1, 1, 1], 3, 100), (vec![1, 1, 1], false));
        assert_eq!(page(&[1, 1, 1], 2, 100), (vec![1, 1], true));
        assert_eq!(page(&[60, 40, 1], 9, 100), (vec![60, 40], true));
        assert_eq!(page(&[900, 1], 9, 100), (vec![900], true));
        assert_eq!(page(&[900], 9, 100), (vec![900], false));
        assert_eq!(page(&[], 9, 100), (vec![], false));
    }
}
