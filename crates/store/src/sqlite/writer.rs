//! The one writer: a thread that owns the only connection that writes, and commits in groups.
//!
//! Whoever wants something written hands over a job and awaits its answer. The writer takes what is waiting, runs it in
//! one transaction, commits (which syncs), and only then answers: so a hundred callers share one sync, and no `Ok`
//! leaves before the disk has it.
//!
//! Each job succeeds or fails alone. Failing is rare and savepoints are not free (each copies the pages it touches), so
//! a group is first run without any. When a job fails, everything is rolled back and the same jobs run again, each in a
//! savepoint of its own: which is why a job can be run twice, and must not do anything but use its connection.
//!
//! Jobs have a class. Each group takes acknowledgements first, then results, then work, then upkeep, each for at most
//! [`SLICE`], so that none of them can make a publisher wait long nor starve for ever.

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

/// How long one class may use of a group.
const SLICE: Duration = Duration::from_millis(5);
/// How long after a failure to write, with nothing else to do, the writer tries whether it can again.
const PROBE: Duration = Duration::from_secs(1);
/// How many acknowledgements may wait; more are refused with [`StoreError::Overloaded`].
const MAX_WAITING_ACKS: usize = 8_192;

/// How many bytes of events may wait to be acknowledged; more are refused too.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Results that nobody waits for may wait so long for a group that is begun for something else. Each group writes every
/// page it touched and syncs, so results that ride along cost a fraction of what they cost alone.
const RIDE_ALONG: Duration = Duration::from_millis(5);

/// How often the writer lets others run before it begins a group, as long as more comes in meanwhile.
const YIELDS: usize = 8;

/// What a job is for; in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Somebody outside waits for it.
    Ack,
    /// Results that other deliveries wait for.
    Result,
    /// Claims and fan-out.
    Work,
    /// Clearing up.
    Upkeep,
    /// Results that can wait for a group of others, if it comes soon.
    RideAlong,
}

const CLASSES: usize = 5;

trait Job: Send {
    /// Does the work in its caller's context, and keeps its value. May be called again after a rollback.
    fn run(&mut self, db: &Db, units: &Units) -> Result<(), StoreError>;
    /// The bytes it holds while it waits.
    fn weight(&self) -> usize;
    /// Answers, after the commit or its failure. So many jobs shared the transaction.
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
        // A caller that went away needs no answer; what it asked for is done all the same.
        drop(reply.send(outcome.and_then(|()| value.ok_or(StoreError::Closed))));
    }
}

#[derive(Default)]
struct Waiting {
    jobs: [VecDeque<Box<dyn Job>>; CLASSES],
    bytes: usize,
    closing: bool,
    /// The write-ahead log is to be started over before the next group.
    start_over: bool,
}

impl Waiting {
    /// Whether nothing is waiting that has to be done at once.
    fn may_wait(&self) -> bool {
        let (others, riding) = self.jobs.split_at(Class::RideAlong as usize);
        others.iter().all(VecDeque::is_empty) && (!self.closing || riding.iter().all(VecDeque::is_empty))
    }
}

struct Shared {
    waiting: Mutex<Waiting>,
    woken: Condvar,
    /// What keeps jobs from being written; until something has been.
    trouble: Mutex<Option<StoreError>>,
    /// How much there is, as of the last commit.
    counts: Arc<Counts>,
    /// The file that is written.
    file: Arc<DatabaseFile>,
    /// Jobs that panic are answered so; the others of their group are not touched.
    units: Units,
}

/// The way to the writer thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread; it owns the connection from now on.
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

    /// Has `work` done in a transaction that others may share, and answers after its sync.
    pub(crate) async fn call<T, W>(&self, class: Class, work: W) -> Result<T, StoreError>
    where
        W: Fn(&Db) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.call_holding(0, class, work).await
    }

    /// As [`Writer::call`], for work that holds so many bytes.
    pub(crate) async fn call_holding<T, W>(&self, weight: usize, class: Class, work: W) -> Result<T, StoreError>
    where
        W: Fn(&Db) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let context = if class == Class::Ack { commit_span::begin() } else { LogContext::current() };
        let job: Box<dyn Job> = Box::new(Call { weight, context, work, value: None, reply });
        let told = {
            let mut waiting = self.shared.waiting.lock();
            if waiting.closing {
                return Err(StoreError::Closed);
            }
            let count = waiting.jobs[class as usize].len();
            // A single one may be as large as it likes: whoever took it in has looked at that.
            let too_much = count >= MAX_WAITING_ACKS || (count > 0 && waiting.bytes + weight > MAX_WAITING_BYTES);
            if class == Class::Ack && too_much {
                return Err(StoreError::Overloaded);
            }
            waiting.bytes += weight;
            waiting.jobs[class as usize].push_back(job);
            // The first one starts the time that those who ride along wait; the others need not be told.
            class != Class::RideAlong || count == 0
        };
        if told {
            self.shared.woken.notify_one();
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// What has the writer start the write-ahead log over, from whatever thread.
    pub(crate) fn starter_over(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.waiting.lock().start_over = true
    }

    /// What keeps jobs from being written, if something does.
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

    /// Lets the thread finish what is waiting, and ends it.
    pub(crate) fn close(&self) {
        self.shared.waiting.lock().closing = true;
        self.shared.woken.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // How it ended is the supervisor's to tell.
            drop(thread.join());
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// However the thread ends, nobody is left waiting for it.
struct Ending<'s>(&'s Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        waiting.closing = true;
        // A dropped job answers `Closed`.
        waiting.jobs = Default::default();
    }
}

fn run(shared: &Shared, db: &Db) {
    let _ending = Ending(shared);
    loop {
        fault::point("store-writer");
        let mut idle = false;
        let start_over = {
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
            std::mem::take(&mut waiting.start_over)
        };
        if start_over {
            checkpoint::start_over(db);
        }
        if idle {
            *shared.trouble.lock() = probe(shared, db).err();
            continue;
        }
        gather(shared);
        group(shared, db);
    }
}

/// Whether something can be written. It has to be larger than what may fit where nothing else does.
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

/// Lets those run who are about to hand something over: each group writes the pages it touches and syncs once, so one
/// for many costs much less than several. On a busy machine their turn comes here; on an idle one this takes no time.
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

/// One transaction: takes jobs class by class, commits, answers.
fn group(shared: &Shared, db: &Db) {
    if let Err(error) = begin(db) {
        return refuse_all(shared, &error);
    }
    let mut jobs: Vec<Box<dyn Job>> = Vec::new();
    let mut spoiled = false;
    let mut serious = false;
    for class in 0..CLASSES {
        let slice = Stopwatch::start();
        while !spoiled
            && slice.elapsed() < SLICE
            && let Some(mut job) = next(shared, class)
        {
            spoiled = run_job(shared, db, &mut *job).is_err();
            serious |= class != Class::Upkeep as usize;
            jobs.push(job);
        }
    }
    let outcomes = if spoiled { apart(shared, db, &mut jobs) } else { vec![commit(shared, db); jobs.len()] };
    let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err().filter(|error| error.is_temporary()));
    match failed {
        Some(error) => *shared.trouble.lock() = Some(error.clone()),
        // What is written for upkeep is too small to prove anything.
        None if serious => *shared.trouble.lock() = None,
        None => {}
    }
    let count = jobs.len();
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        job.answer(outcome, count);
    }
}

/// Runs the jobs again from the start, each in a savepoint, so that those that fail leave no trace. Some failures (a
/// full disk) end the whole transaction for everyone: then each runs in a transaction of its own.
fn apart(shared: &Shared, db: &Db, jobs: &mut [Box<dyn Job>]) -> Vec<Outcome> {
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

/// No transaction can be had: nobody is left waiting for one.
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

/// Runs a job. One that panics leaves nothing but what its savepoint or transaction takes back.
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
    // What is gone when the answer leaves was there when it was checked: nobody is told of a commit to a file that was
    // gone when he asked.
    let committed = shared.file.check().and_then(|()| execute(db, "COMMIT"));
    if committed.is_ok() {
        shared.counts.apply(db.change());
    } else {
        roll_back(db)?;
    }
    committed
}

/// Ends the transaction with nothing kept. Some errors (a full disk) have ended it before.
fn roll_back(db: &Db) -> Outcome {
    if db.is_autocommit() { Ok(()) } else { execute(db, "ROLLBACK") }
}

/// What became of the job; `None` when the transaction around it cannot go on.
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
