//! The official models, and the files of each.

use std::path::PathBuf;

/// An official model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficialModel {
    /// Its name in commands.
    pub name: &'static str,
    /// Owner and name on the hub.
    pub repository: &'static str,
    /// The files needed for speech.
    pub files: &'static [&'static str],
    /// T3's file, if the repository holds those of other models too.
    pub t3: Option<&'static str>,
    /// Files that it shares with another model, from that one's repository.
    pub shared: &'static [&'static str],
}

const BASE_REPOSITORY: &str = "ResembleAI/chatterbox";
const GRAPHEMES: &str = "grapheme_mtl_merged_expanded_v1.json";
const CANGJIE: &str = "Cangjie5_TC.json";

/// A version of the multilingual model that is tuned to one language.
const fn tuned(
    name: &'static str,
    repository: &'static str,
    files: &'static [&'static str],
) -> OfficialModel {
    OfficialModel {
        name,
        repository,
        files,
        t3: None,
        shared: &["ve.safetensors", "conds.pt", CANGJIE],
    }
}

const BYTE_PAIR_FILES: [&str; 5] = [
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
];

/// A model's own files, and those of its tokenizer.
const fn with_byte_pairs(own: [&'static str; 4]) -> [&'static str; 9] {
    let [a, b, c, d] = own;
    let [e, f, g, h, i] = BYTE_PAIR_FILES;
    [a, b, c, d, e, f, g, h, i]
}

/// The models that can be downloaded.
pub const OFFICIAL_MODELS: [OfficialModel; 12] = [
    OfficialModel {
        name: "base",
        repository: BASE_REPOSITORY,
        t3: None,
        shared: &[],
        files: &[
            "ve.safetensors",
            "t3_cfg.safetensors",
            "s3gen.safetensors",
            "tokenizer.json",
            "conds.pt",
        ],
    },
    OfficialModel {
        name: "turbo",
        repository: "ResembleAI/chatterbox-turbo",
        t3: None,
        shared: &[],
        files: &with_byte_pairs([
            "ve.safetensors",
            "t3_turbo_v1.safetensors",
            "s3gen_meanflow.safetensors",
            "conds.pt",
        ]),
    },
    OfficialModel {
        name: "nano",
        repository: "ResembleAI/chatterbox-nano",
        t3: None,
        shared: &[],
        files: &with_byte_pairs([
            "ve.safetensors",
            "t3_nano_v1.safetensors",
            "s3gen_meanflow.safetensors",
            "conds.pt",
        ]),
    },
    OfficialModel {
        name: "flash",
        repository: "ResembleAI/chatterbox-flash",
        t3: None,
        shared: &[],
        // It has no voice of its own.
        files: &[
            "ve.safetensors",
            "t3_flash.safetensors",
            "s3gen.safetensors",
            "tokenizer.json",
        ],
    },
    OfficialModel {
        name: "multilingual",
        repository: BASE_REPOSITORY,
        t3: Some("t3_mtl23ls_v2.safetensors"),
        shared: &[],
        files: &[
            "ve.safetensors",
            "t3_mtl23ls_v2.safetensors",
            "s3gen.safetensors",
            "conds.pt",
            GRAPHEMES,
            CANGJIE,
        ],
    },
    OfficialModel {
        name: "multilingual-v3",
        repository: BASE_REPOSITORY,
        t3: Some("t3_mtl23ls_v3.safetensors"),
        shared: &[],
        files: &[
            "ve.safetensors",
            "t3_mtl23ls_v3.safetensors",
            "s3gen_v3.safetensors",
            "conds.pt",
            GRAPHEMES,
            CANGJIE,
        ],
    },
    tuned(
        "zh",
        "ResembleAI/Chatterbox-Multilingual-zh-cmn",
        &["t3_zh_cmn.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
    tuned(
        "hi",
        "ResembleAI/Chatterbox-Multilingual-hi",
        &["t3_hi.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
    tuned(
        "es-es",
        "ResembleAI/Chatterbox-Multilingual-es-es",
        &["t3_es_es.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
    tuned(
        "es-mx",
        "ResembleAI/Chatterbox-Multilingual-es-mx-latam",
        &[
            "t3_es_mx_latam.safetensors",
            "s3gen_v3.safetensors",
            GRAPHEMES,
        ],
    ),
    tuned(
        "pt-pt",
        "ResembleAI/Chatterbox-Multilingual-pt-pt",
        &["t3_pt_pt.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
    tuned(
        "pt-br",
        "ResembleAI/Chatterbox-Multilingual-pt-br",
        &["t3_pt_br.safetensors", "s3gen_v3.safetensors", GRAPHEMES],
    ),
];

/// The names of all official models, as text.
pub fn official_names() -> String {
    let names: Vec<&str> = OFFICIAL_MODELS.iter().map(|model| model.name).collect();
    names.join(", ")
}

impl OfficialModel {
    /// The model of that name.
    pub fn named(name: &str) -> Option<&'static OfficialModel> {
        OFFICIAL_MODELS
            .iter()
            .find(|model| model.name == name || model.repository == name)
    }

    /// Its files with their repositories, its own first.
    pub(crate) fn remote(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let (repository, own) = (self.repository, self.files.iter());
        let shared = self.shared.iter().map(|file| (BASE_REPOSITORY, *file));
        own.map(move |file| (repository, *file)).chain(shared)
    }

    /// What a loader opens in the folder of its files: the folder, or T3's file if there may be
    /// several.
    pub(crate) fn opened(&self, folder: PathBuf) -> PathBuf {
        match self.t3 {
            Some(t3) => folder.join(t3),
            None => folder,
        }
    }
}
