//! Counts the steps of matching, for the tests that check that it is linear. Compiles to nothing in the server.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts bytes or values that are looked at.
#[inline(always)]
pub(crate) fn count(steps: usize) {
    #[cfg(test)]
    STEPS.with(|count| count.set(count.get() + steps));
    #[cfg(not(test))]
    let _ = steps;
}

/// The number of steps that `work` takes.
#[cfg(test)]
pub(crate) fn of<T>(work: impl FnOnce() -> T) -> usize {
    STEPS.with(|count| count.set(0));
    work();
    STEPS.with(std::cell::Cell::get)
}
