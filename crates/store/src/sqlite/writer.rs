//! The one writer: a thread that owns the only connection that writes, and commits in groups.
//!
//! A caller submits a job and awaits its answer. The writer takes the waiting jobs, runs them in one transaction,
//! commits (which syncs), and only then answers. So a hundred callers share one sync, and no caller receives `Ok`
//! before its writes are on disk.
//!
//! Each job succeeds or fails alone. Failures are rare and savepoints are not free (each copies the pages it touches),
//! so a group first runs without savepoints. If a job fails, everything is rolled back and the same jobs run again,
//! each in its own savepoint. So a job may run twice, and must have no effect other than through its connection.
//!
//! Jobs have a class. Each group takes acknowledgements first, then results, then work, then upkeep, each class for at
//! most [`SLICE`], so that no class makes a publisher wait long, and none starves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tidings_model::clock::Stopwatch;
use tidings_supervisor::{LogContext, Supervisor, Units, fault};
use tokio::sync::oneshot;

use super::checkpoint;
use super::counts::Counts;
use super::db::{Change, Db};
use super::file::DatabaseFile;
use crate::commit_span;
use crate::error::StoreError;

/// The longest time that one class may use in a group.
const SLICE: Duration = Duration::from_millis(5);
/// How often an idle writer probes, after a failure, whether it can write again.
const PROBE: Duration = Duration::from_secs(1);
/// How many acknowledgements may wait; more are refused with [`StoreError::Overloaded`].
const MAX_WAITING_ACKS: usize = 8_192;

/// How many bytes of events may wait to be acknowledged; more are refused too.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// How long results that block nothing may wait for a group that starts for another job. Each group writes every page
/// that it touched and syncs, so results in such a group cost a fraction of what they cost alone.
const RIDE_ALONG: Duration = Duration::from_millis(5);

/// How often the writer yields to other threads before it starts a group, while more jobs arrive.
const YIELDS: usize = 8;

/// The purpose of a job, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A caller outside the courier waits for it.
    Ack,
    /// Results that block other deliveries.
    Result,
    /// Claims and fan-out.
    Work,
    /// Sweeps and retention.
    Upkeep,
    /// Results that block nothing: they wait up to [`RIDE_ALONG`] for another group.
    RideAlong,
}

const CLASSES: usize = 5;

trait Job: Send {
    /// Does the work in its caller's context, and keeps its value. May be called again after a rollback.
    fn run(&mut self, db: &Db, units: &Units) -> Result<(), StoreError>;
    /// The bytes that it holds while it waits.
    fn weight(&self) -> usize;
    /// Sends the answer, after the commit or a failure. So many jobs shared the transaction.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>, jobs: usize);
}

struct Call<W, T> {
    weight: usize,
    context: LogContext,
    work: W,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<W, T> Job for Call<W, T>
where
    W: Fn(&Db) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, db: &Db, units: &Units) -> Result<(), StoreError> {
        self.value = Some(self.context.run(|| units.catch("", || (self.work)(db)))??);
        Ok(())
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>, jobs: usize) {
        let Self { value, reply, context, .. } = *self;
        commit_span::end(&context, jobs, &outcome);
        // If the caller was dropped, nothing receives the answer; the work is done all the same.
        drop(reply.send(outcome.and_then(|()| value.ok_or(StoreError::Closed))));
    }
}

#[derive(Default)]
struct Waiting {
    jobs: [VecDeque<Box<dyn Job>>; CLASSES],
    bytes: usize,
    closing: bool,
    /// Whether the write-ahead log is to be restarted before the next group.
    restart_log: bool,
}

impl Waiting {
    /// Whether no job is waiting that has to run at once.
    fn may_wait(&self) -> bool {
        let (others, riding) = self.jobs.split_at(Class::RideAlong as usize);
        others.iter().all(VecDeque::is_empty) && (!self.closing || riding.iter().all(VecDeque::is_empty))
    }
}

struct Shared {
    waiting: Mutex<Waiting>,
    woken: Condvar,
    /// The last temporary failure to write; cleared by the next success.
    trouble: Mutex<Option<StoreError>>,
    /// The numbers as of the last commit.
    counts: Arc<Counts>,
    /// The database file, which is checked before each commit.
    file: Arc<DatabaseFile>,
    /// Runs jobs as units: a panic fails only its own job.
    units: Units,
}

/// The handle of the writer thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread, which owns the connection.
    pub(crate) fn start(
        db: Db,
        counts: Arc<Counts>,
        file: Arc<DatabaseFile>,
        supervisor: &Supervisor,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            woken: Condvar::new(),
            trouble: Mutex::default(),
            counts,
            file,
            units: supervisor.units("store-job"),
        });
        let theirs = Arc::clone(&shared);
        let thread = supervisor.thread("store-writer", move || run(&theirs, &db))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Runs `work` in a transaction, which other jobs may share. Returns after the commit is synced.
    pub(crate) async fn call<T, W>(&self, class: Class, work: W) -> Result<T, StoreError>
    where
        W: Fn(&Db) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.call_holding(0, class, work).await
    }

    /// As [`Writer::call`], for work that holds `weight` bytes.
    pub(crate) async fn call_holding<T, W>(&self, weight: usize, class: Class, work: W) -> Result<T, StoreError>
    where
        W: Fn(&Db) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let context = if class == Class::Ack { commit_span::begin() } else { LogContext::current() };
        let job: Box<dyn Job> = Box::new(Call { weight, context, work, value: None, reply });
        let wake = {
            let mut waiting = self.shared.waiting.lock();
            if waiting.closing {
                return Err(StoreError::Closed);
            }
            let count = waiting.jobs[class as usize].len();
            // A single job may have any size: the caller has limited it.
            let too_much = count >= MAX_WAITING_ACKS || (count > 0 && waiting.bytes + weight > MAX_WAITING_BYTES);
            if class == Class::Ack && too_much {
                return Err(StoreError::Overloaded);
            }
            waiting.bytes += weight;
            waiting.jobs[class as usize].push_back(job);
            // The first `RideAlong` job starts the wait; later ones need not wake the writer.
            class != Class::RideAlong || count == 0
        };
        if wake {
            self.shared.woken.notify_one();
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// A function for other threads that makes the writer restart the write-ahead log.
    pub(crate) fn log_restarter(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.waiting.lock().restart_log = true
    }

    /// Why nothing can be written now, if so.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        if self.shared.waiting.lock().closing {
            return Some(StoreError::Closed);
        }
        self.shared.trouble.lock().clone()
    }

    /// How many jobs are waiting.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting.lock().jobs.iter().map(VecDeque::len).sum()
    }

    /// Lets the thread finish the waiting jobs, and ends it.
    pub(crate) fn close(&self) {
        self.shared.waiting.lock().closing = true;
        self.shared.woken.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // If it panicked, the supervisor reports it.
            drop(thread.join());
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Fails the waiting jobs when the thread ends, however it ends.
struct FailWaiting<'s>(&'s Shared);

impl Drop for FailWaiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        waiting.closing = true;
        // The caller of a dropped job receives `Closed`.
        waiting.jobs = Default::default();
    }
}

fn run(shared: &Shared, db: &Db) {
    let _fail_waiting = FailWaiting(shared);
    loop {
        fault::point("store-writer");
        let mut idle = false;
        let restart_log = {
            let mut waiting = shared.waiting.lock();
            while waiting.may_wait() && !idle {
                if waiting.jobs.iter().any(|jobs| !jobs.is_empty()) {
                    let waited_long = shared.woken.wait_for(&mut waiting, RIDE_ALONG).timed_out();
                    if waited_long {
                        break;
                    }
                } else if waiting.closing {
                    return;
                } else if shared.trouble.lock().is_some() {
                    idle = shared.woken.wait_for(&mut waiting, PROBE).timed_out();
                } else {
                    shared.woken.wait(&mut waiting);
                }
            }
            std::mem::take(&mut waiting.restart_log)
        };
        if restart_log {
            checkpoint::restart_log(db);
        }
        if idle {
            *shared.trouble.lock() = probe(shared, db).err();
            continue;
        }
        gather(shared);
        group(shared, db);
    }
}

/// Tries whether the database can be written. The probe is large: a small one could succeed on a nearly full disk,
/// where real jobs fail.
fn probe(shared: &Shared, db: &Db) -> Outcome {
    let filler = "INSERT OR REPLACE INTO probe (id, filler) VALUES (1, zeroblob(65536))";
    for sql in [filler, "DELETE FROM probe WHERE id = 1"] {
        begin(db)?;
        if let Err(error) = execute(db, sql) {
            return roll_back(db).and(Err(error));
        }
        commit(shared, db)?;
    }
    Ok(())
}

/// Yields to threads that are about to submit a job. Each group writes the pages that it touches and syncs once, so one
/// large group costs much less than several small ones. On a busy machine the other threads run here; on an idle one
/// this takes no time.
fn gather(shared: &Shared) {
    let waiting = || shared.waiting.lock().jobs[Class::Ack as usize].len();
    let mut before = waiting();
    for _ in 0..YIELDS {
        std::thread::yield_now();
        let now = waiting();
        if now == before {
            return;
        }
        before = now;
    }
}

type Outcome = Result<(), StoreError>;

/// Runs one transaction: takes jobs class by class, commits, and answers.
fn group(shared: &Shared, db: &Db) {
    if let Err(error) = begin(db) {
        return refuse_all(shared, &error);
    }
    let mut jobs: Vec<Box<dyn Job>> = Vec::new();
    let mut has_failed = false;
    let mut has_more_than_upkeep = false;
    for class in 0..CLASSES {
        let slice = Stopwatch::start();
        while !has_failed
            && slice.elapsed() < SLICE
            && let Some(mut job) = next(shared, class)
        {
            has_failed = run_job(shared, db, &mut *job).is_err();
            has_more_than_upkeep |= class != Class::Upkeep as usize;
            jobs.push(job);
        }
    }
    let outcomes = if has_failed { rerun(shared, db, &mut jobs) } else { vec![commit(shared, db); jobs.len()] };
    let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err().filter(|error| error.is_temporary()));
    match failed {
        Some(error) => *shared.trouble.lock() = Some(error.clone()),
        // Upkeep alone writes too little to prove that the disk has room again.
        None if has_more_than_upkeep => *shared.trouble.lock() = None,
        None => {}
    }
    let count = jobs.len();
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        job.answer(outcome, count);
    }
}

/// Runs the jobs again from the start, each in a savepoint, so that failed ones leave no trace. Some failures (a full
/// disk) end the whole transaction: then each job runs in a transaction of its own.
fn rerun(shared: &Shared, db: &Db, jobs: &mut [Box<dyn Job>]) -> Vec<Outcome> {
    if let Err(error) = roll_back(db).and_then(|()| begin(db)) {
        return vec![Err(error); jobs.len()];
    }
    let outcomes: Option<Vec<Outcome>> = jobs.iter_mut().map(|job| in_savepoint(shared, db, &mut **job)).collect();
    match outcomes {
        Some(outcomes) => {
            let committed = commit(shared, db);
            outcomes.into_iter().map(|outcome| outcome.and_then(|()| committed.clone())).collect()
        }
        None => jobs.iter_mut().map(|job| alone(shared, db, &mut **job)).collect(),
    }
}

fn alone(shared: &Shared, db: &Db, job: &mut dyn Job) -> Outcome {
    roll_back(db)?;
    begin(db)?;
    match run_job(shared, db, job) {
        Ok(()) => commit(shared, db),
        Err(error) => roll_back(db).and(Err(error)),
    }
}

/// Fails all waiting jobs, because no transaction can be started.
fn refuse_all(shared: &Shared, error: &StoreError) {
    *shared.trouble.lock() = Some(error.clone());
    let waiting = {
        let mut waiting = shared.waiting.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.jobs)
    };
    for job in waiting.into_iter().flatten() {
        job.answer(Err(error.clone()), 0);
    }
}

fn next(shared: &Shared, class: usize) -> Option<Box<dyn Job>> {
    let mut waiting = shared.waiting.lock();
    let job = waiting.jobs[class].pop_front()?;
    waiting.bytes -= job.weight();
    Some(job)
}

/// Runs a job. If it panics, its savepoint or transaction is rolled back as after an error.
fn run_job(shared: &Shared, db: &Db, job: &mut dyn Job) -> Outcome {
    job.run(db, &shared.units)
}

fn execute(db: &Db, sql: &str) -> Outcome {
    Ok(db.prepare_cached(sql).and_then(|mut statement| statement.execute([])).map(drop)?)
}

fn begin(db: &Db) -> Outcome {
    db.set_change(Change::default());
    execute(db, "BEGIN IMMEDIATE")
}

fn commit(shared: &Shared, db: &Db) -> Outcome {
    // The check comes after the job was submitted: a commit to a file that was already displaced then is not
    // acknowledged.
    let committed = shared.file.check().and_then(|()| execute(db, "COMMIT"));
    if committed.is_ok() {
        shared.counts.apply(db.change());
    } else {
        roll_back(db)?;
    }
    committed
}

/// Rolls the transaction back. Some errors (a full disk) have ended it already.
fn roll_back(db: &Db) -> Outcome {
    if db.is_autocommit() { Ok(()) } else { execute(db, "ROLLBACK") }
}

/// Runs a job in a savepoint. Returns its outcome; `None` if the transaction around it has ended.
fn in_savepoint(shared: &Shared, db: &Db, job: &mut dyn Job) -> Option<Outcome> {
    execute(db, "SAVEPOINT job").ok()?;
    let before = db.change();
    let outcome = run_job(shared, db, job);
    if db.is_autocommit() {
        return None;
    }
    if outcome.is_err() {
        execute(db, "ROLLBACK TO job").ok()?;
        db.set_change(before);
    }
    execute(db, "RELEASE job").ok()?;
    Some(outcome)
}
