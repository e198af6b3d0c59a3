//! Files stay valid while they grow, and are replaced only by complete recordings.

use sottovoce_audio::{AudioFile, AudioFormat};
use std::fs;

const SAMPLE_RATE: u32 = 24_000;

#[test]
fn a_new_file_is_valid_before_it_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.wav");
    let mut file = AudioFile::create(&path, SAMPLE_RATE).unwrap();
    file.write(&[0.25; 500]).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(
        u32::from_le_bytes(bytes[40..44].try_into().unwrap()),
        1000,
        "the header must count what is there"
    );
    file.finish().unwrap();
}

#[test]
fn an_existing_file_is_replaced_only_by_a_complete_recording() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.wav");
    fs::write(&path, b"an earlier recording").unwrap();
    let mut file = AudioFile::create(&path, SAMPLE_RATE).unwrap();
    file.write(&[0.25; 500]).unwrap();
    file.abandon().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"an earlier recording");

    let mut file = AudioFile::create(&path, SAMPLE_RATE).unwrap();
    file.write(&[0.25; 500]).unwrap();
    file.finish().unwrap();
    assert!(fs::read(&path).unwrap().starts_with(b"RIFF"));
}

#[test]
fn an_abandoned_new_file_keeps_its_samples_and_an_empty_one_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.wav");
    let mut file = AudioFile::create(&path, SAMPLE_RATE).unwrap();
    file.write(&[0.25; 500]).unwrap();
    file.abandon().unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), 44 + 1000);
    let path = folder.path().join("empty.wav");
    let file = AudioFile::create(&path, SAMPLE_RATE).unwrap();
    file.abandon().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_name_without_a_known_extension_is_refused_before_the_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.txt");
    assert!(AudioFile::create(&path, SAMPLE_RATE).is_err());
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn a_device_takes_a_recording_in_a_given_format() {
    let device = std::path::Path::new("/dev/null");
    let mut file = AudioFile::create_as(device, AudioFormat::Wav, SAMPLE_RATE).unwrap();
    file.write(&[0.5; 100]).unwrap();
    file.finish().unwrap();
}
