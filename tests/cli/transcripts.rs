//! What users type and see, line by line: the files in `transcripts`. `TRYCMD=overwrite` writes them anew.

#[test]
fn what_is_shown_is_what_is_written_down() {
    let cases = trycmd::TestCases::new();
    cases.register_bin("maplsm", std::path::Path::new(env!("CARGO_BIN_EXE_maplsm")));
    cases.case("tests/cli/transcripts/*.trycmd");
}
