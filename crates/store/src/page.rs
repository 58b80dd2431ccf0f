//! Pages of lists, bounded in rows and in bytes: what is read for one never is more than a page and a row.

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the list's order.
    pub rows: Vec<T>,
    /// Whether others follow.
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
    /// One of at most so many rows and bytes, but of one row at least.
    pub(crate) fn new(limit: usize, bytes: usize) -> Self {
        Self { page: Page { rows: Vec::new(), more: false }, limit, bytes }
    }

    /// How many rows to ask for: the last one only shows that there are more.
    pub(crate) fn asked(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// Takes the next row; `false` when the page is full, and the row belongs to the next one.
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
