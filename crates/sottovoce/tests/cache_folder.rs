//! The cache folder: what it keeps, when it is used, and that it never stands in the way.

mod common;

use common::{T3_FILE, clip, config, write_model};
use sottovoce::{
    CacheFolder, CacheKind, Engine, EngineOptions, ModelConfig, PrecisionChoice, Source,
    StreamOptions, Voice, VoiceSource,
};
use sottovoce_chatterbox::convert::convert_speaking;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_tensor::Precision;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A small model in the official layout, a recording, and an empty cache folder.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene::of(&config())
    }

    /// A scene whose model has turbo's architecture, and so a voice's whole prompt in T3.
    fn with_long_prefixes() -> Scene {
        let mut config = ModelConfig::tiny_turbo();
        config.t3.sampling.token_count_max = 25;
        Scene::of(&config)
    }

    fn of(config: &ModelConfig) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("model")).unwrap();
        let scene = Scene { folder };
        write_model(&scene.model(), config);
        for file in std::fs::read_dir(scene.model()).unwrap() {
            rest(&file.unwrap().path());
        }
        std::fs::write(scene.clip(), clip(6.0, 22_050)).unwrap();
        scene
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn clip(&self) -> PathBuf {
        self.folder.path().join("clip.wav")
    }

    fn cache(&self) -> CacheFolder {
        CacheFolder::new(self.folder.path().join("cache"))
    }

    fn load(&self, cache: Option<&Path>, precision: PrecisionChoice) -> Engine {
        let options = EngineOptions {
            precision,
            streams_max: 1,
            cache_dir: cache.map(Path::to_owned),
            ..EngineOptions::default()
        };
        Engine::load(Source::Directory(self.model()), options).unwrap()
    }

    /// Samples of a word in the recording's voice at 8 bits, with the cache folder or without.
    fn spoken(&self, cache: Option<&Path>) -> Vec<f32> {
        let engine = self.load(cache, PrecisionChoice::Int8);
        let voice = engine.voice(VoiceSource::Clip(self.clip())).unwrap();
        samples(&engine, &voice)
    }

    fn spoken_with_cache(&self) -> Vec<f32> {
        self.spoken(Some(self.cache().folder()))
    }

    /// The only entry of a kind.
    fn entry(&self, kind: CacheKind) -> PathBuf {
        let [entry] = &self.entries(kind)[..] else {
            panic!(
                "{:?} must have one entry of {kind:?}",
                self.cache().folder()
            );
        };
        entry.clone()
    }

    fn entries(&self, kind: CacheKind) -> Vec<PathBuf> {
        let entries = self.cache().entries().unwrap().into_iter();
        let of_kind = entries.filter(|entry| entry.kind == kind);
        of_kind.map(|entry| entry.path).collect()
    }
}

fn samples(engine: &Engine, voice: &Voice) -> Vec<f32> {
    let stream = engine.stream("Hello.", voice, StreamOptions::default());
    let chunks = stream.unwrap().map(|chunk| chunk.unwrap().samples);
    chunks.flatten().collect()
}

/// Dates a file back: the digest of one that has just changed is not kept.
fn rest(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60))
        .unwrap();
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_second_start_speaks_the_same_from_what_the_first_one_kept() {
    let scene = Scene::new();
    let without = scene.spoken(None);
    assert!(!without.is_empty());
    assert!(scene.cache().entries().unwrap().is_empty());
    assert!(scene.spoken_with_cache() == without);
    let (weights, voice) = (
        scene.entry(CacheKind::Weights),
        scene.entry(CacheKind::Voice),
    );
    assert!(!scene.entries(CacheKind::Digest).is_empty());
    assert!(scene.spoken_with_cache() == without);
    assert_eq!(scene.entry(CacheKind::Weights), weights);
    assert_eq!(scene.entry(CacheKind::Voice), voice);

    // Entries that lie about their content show that they are what is used.
    let other = scene.folder.path().join("other.wav");
    std::fs::write(&other, clip(7.0, 16_000)).unwrap();
    let engine = scene.load(None, PrecisionChoice::Int8);
    let foreign = engine.voice(VoiceSource::Clip(other)).unwrap();
    foreign.save(&voice).unwrap();
    drop(foreign);
    drop(engine);
    let with_other_voice = scene.spoken_with_cache();
    assert!(with_other_voice != without, "the kept voice is used");
    let model = WeightSource::open(&scene.model()).unwrap();
    convert_speaking(&model, &weights, Precision::Q4).unwrap();
    assert!(
        scene.spoken_with_cache() != with_other_voice,
        "the kept weights are used"
    );
}

#[test]
fn damaged_entries_are_made_again() {
    let scene = Scene::new();
    let expected = scene.spoken_with_cache();
    let entries = [
        scene.entry(CacheKind::Weights),
        scene.entry(CacheKind::Voice),
    ];
    let contents = entries.clone().map(|path| std::fs::read(path).unwrap());
    let damages: [fn(&Path); 3] = [
        damage,
        |path| std::fs::write(path, b"").unwrap(),
        |path| std::fs::write(path, b"\x08\0\0\0\0\0\0\0{\"a\":{} ").unwrap(),
    ];
    for harm in damages {
        entries.iter().for_each(|path| harm(path));
        for digest in scene.entries(CacheKind::Digest) {
            harm(&digest);
        }
        assert!(scene.spoken_with_cache() == expected);
        for (path, content) in entries.iter().zip(&contents) {
            assert!(std::fs::read(path).unwrap() == *content, "{path:?}");
        }
    }
}

#[test]
fn a_changed_model_or_recording_has_entries_of_its_own() {
    let scene = Scene::new();
    let before = scene.spoken_with_cache();
    damage(&scene.model().join(T3_FILE));
    assert!(scene.spoken_with_cache() == scene.spoken(None));
    assert_eq!(scene.entries(CacheKind::Weights).len(), 2);
    assert_eq!(scene.entries(CacheKind::Voice).len(), 1, "T3 prepares none");
    std::fs::write(scene.clip(), clip(7.0, 22_050)).unwrap();
    let after = scene.spoken_with_cache();
    assert_eq!(scene.entries(CacheKind::Voice).len(), 2);
    assert!(before != after);
}

#[test]
fn nothing_is_kept_where_nothing_was_computed_or_nobody_asked() {
    let scene = Scene::new();
    let cache = scene.cache();
    let engine = scene.load(Some(cache.folder()), PrecisionChoice::F32);
    assert!(
        scene.entries(CacheKind::Weights).is_empty(),
        "f32 needs no conversion"
    );
    engine.fresh_voice(&scene.clip()).unwrap();
    let bytes = std::fs::read(scene.clip()).unwrap();
    let name = "in memory".to_owned();
    engine
        .voice(VoiceSource::ClipBytes { name, bytes })
        .unwrap();
    assert!(scene.entries(CacheKind::Voice).is_empty());
    scene.load(Some(Path::new("")), PrecisionChoice::Int8);
    assert!(!Path::new("weights").exists(), "an empty path is no folder");
}

#[test]
fn a_folder_that_cannot_be_used_changes_nothing() {
    let scene = Scene::new();
    let expected = scene.spoken(None);
    let file = scene.folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(scene.spoken(Some(&file)) == expected);
    assert!(scene.spoken(Some(&file.join("below"))) == expected);
}

#[test]
fn while_another_process_converts_the_weights_they_are_loaded_without_the_folder() {
    let scene = Scene::new();
    let expected = scene.spoken_with_cache();
    let entry = scene.entry(CacheKind::Weights);
    std::fs::remove_file(&entry).unwrap();
    let lock = File::create(entry.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    assert!(scene.spoken_with_cache() == expected);
    assert!(!entry.exists());
    drop(lock);
    assert!(scene.spoken_with_cache() == expected);
    assert!(entry.exists());
}

#[test]
fn keys_and_values_of_a_long_prompt_are_taken_from_the_folder() {
    let scene = Scene::with_long_prefixes();
    let without = scene.spoken(None);
    assert!(scene.spoken_with_cache() == without);
    let entry = scene.entry(CacheKind::Prefix);
    let kept = std::fs::read(&entry).unwrap();
    assert!(scene.spoken_with_cache() == without);

    // Another voice's, under this one's name, show that they are what is used.
    let engine = scene.load(Some(scene.cache().folder()), PrecisionChoice::Int8);
    let other = scene.folder.path().join("other.wav");
    std::fs::write(&other, clip(6.0, 16_000)).unwrap();
    let voice = engine.voice(VoiceSource::Clip(other)).unwrap();
    samples(&engine, &voice);
    drop((voice, engine));
    let entries = scene.entries(CacheKind::Prefix);
    let others = entries.iter().find(|path| **path != entry).unwrap();
    std::fs::copy(others, &entry).unwrap();
    assert!(scene.spoken_with_cache() != without);

    // Damaged ones are computed again, and those of voices that nobody keeps are not kept.
    for harmed in [
        &kept[..kept.len() - 3],
        &[],
        &[kept.clone(), kept.clone()].concat()[1..],
    ] {
        std::fs::write(&entry, harmed).unwrap();
        assert!(scene.spoken_with_cache() == without);
        assert!(std::fs::read(&entry).unwrap() == kept);
    }
    let engine = scene.load(Some(scene.cache().folder()), PrecisionChoice::Int8);
    let name = "in memory".to_owned();
    let bytes = clip(6.0, 24_000);
    let voice = engine.voice(VoiceSource::ClipBytes { name, bytes });
    samples(&engine, &voice.unwrap());
    assert_eq!(scene.entries(CacheKind::Prefix).len(), 2);
}
