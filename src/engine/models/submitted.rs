//! Commits that do not wait for the disk.

use super::*;

/// Two threads submit and wait to be called back; a third one syncs, the thread that tells tells, and a close ends it. Each
/// callback comes once, those of a thread in order, and what was told to be durable is there after the power went. `announce`
/// is what whoever has synced does behind it.
fn submitted_commits_are_told(announce: fn(&Engine)) {
    let fs = SimFs::new();
    let engine = open(&fs);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let submit = |name: u8| -> Box<dyn FnOnce(&Engine) + Send> {
        let (fs, told) = (fs.clone(), Arc::clone(&told));
        Box::new(move |engine| {
            for number in 0..2 {
                let key = [name, number];
                let committed = engine.committer.commit_upto(put(engine, &key, b"value"));
                let Ok(end) = committed else { return };
                engine.teller.want(end);
                let (fs, told) = (fs.clone(), Arc::clone(&told));
                engine.teller.call_back(
                    end,
                    Box::new(move |outcome| {
                        let cut = outcome.is_ok().then(|| fs.power_cut(u64::from(name) << 8 | u64::from(number)));
                        told.lock().expect("no panic").push((key, cut));
                    }),
                );
            }
        })
    };
    let sync = move |engine: &Engine| {
        let _ = engine.teller.sync();
        announce(engine);
    };
    let close = |engine: &Engine| engine.close().expect("a close");
    beside(
        &engine,
        vec![
            submit(1),
            submit(2),
            Box::new(sync),
            Box::new(|engine: &Engine| engine.teller.tell_in_turn()),
            Box::new(|engine: &Engine| engine.teller.sync_submitted()),
            Box::new(close),
        ],
    );
    // What was registered behind the close has been told at once.
    drop(engine);
    let told = std::mem::take(&mut *told.lock().expect("no panic"));
    for name in [1, 2] {
        let of_thread: Vec<u8> = told.iter().filter(|(key, _)| key[0] == name).map(|(key, _)| key[1]).collect();
        assert!(
            of_thread == (0..u8::try_from(of_thread.len()).expect("a few")).collect::<Vec<_>>(),
            "told twice or out of order"
        );
    }
    for (key, cut) in told.into_iter().filter_map(|(key, cut)| Some((key, cut?))) {
        let engine = Engine::open(&options(&cut), Path::new(DIR)).expect("everything is lost");
        assert!(
            engine.readers.get(KEYSPACE, &key).expect("a lookup").is_some(),
            "a commit that was told to be durable is lost"
        );
    }
}

#[test]
fn models_submitted_commits_are_told_the_truth_once() {
    explore(|| submitted_commits_are_told(|_| {}));
}

#[test]
fn models_find_commits_that_are_told_too_early() {
    // Of what was committed during the sync as well.
    must_fail("is lost", || submitted_commits_are_told(|engine| engine.commits.set_durable(engine.log.end())));
}
