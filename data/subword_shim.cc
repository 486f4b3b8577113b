// subword_shim.cc: SentencePiece behind the C interface of subword.h. Every entry point that calls
// the library catches what it throws.
#include "data/subword.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <charconv>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace spm = sentencepiece;

struct wr_subword {
    spm::SentencePieceProcessor processor;
    std::string bytes;
};

namespace {

// Run `body`, which returns a wr_status, and turn exceptions into one.
template <typename Body> wr_status guarded(wr_error *err, const char *what, Body body) noexcept {
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return wr_fail_memory(err, what, 0);
    } catch (const std::exception &e) {
        return wr_fail(err, WR_ERR_LIBRARY, "SentencePiece failed in %s: %s", what, e.what());
    } catch (...) {
        return wr_fail(err, WR_ERR_LIBRARY, "SentencePiece failed in %s", what);
    }
}

// The caller's lines as SentencePiece wants them.
class Lines final : public spm::SentenceIterator {
  public:
    Lines(wr_subword_next *next, void *context) : next_(next), context_(context) { Next(); }
    bool done() const override { return done_; }
    const std::string &value() const override { return line_; }
    spm::util::Status status() const override { return spm::util::Status(); }
    bool any() const { return any_; }
    void Next() override {
        const char *line = nullptr;
        size_t n = 0;
        done_ = !next_(context_, &line, &n);
        if (done_) return;
        line_.assign(line, n);
        any_ = any_ || n > 0;
    }

  private:
    wr_subword_next *next_;
    void *context_;
    std::string line_;
    bool done_ = false, any_ = false;
};

// A number with a decimal point whatever the locale.
std::string decimal(double x) {
    char text[32];
    return std::string(text, std::to_chars(text, text + sizeof text, x).ptr);
}

std::unordered_map<std::string, std::string> arguments(const wr_subword_options &o) {
    return {
        {"model_type", o.kind == WR_SUBWORD_UNIGRAM ? "unigram" : "bpe"},
        {"vocab_size", std::to_string(o.vocab)},
        {"hard_vocab_limit", o.exact ? "true" : "false"},
        {"character_coverage", decimal(o.coverage)},
        {"byte_fallback", o.byte_fallback ? "true" : "false"},
        {"normalization_rule_name", o.lowercase ? "nmt_nfkc_cf" : "nmt_nfkc"},
        {"pad_id", std::to_string(WR_PAD_ID)},
        {"unk_id", std::to_string(WR_UNK_ID)},
        {"bos_id", std::to_string(WR_BOS_ID)},
        {"eos_id", std::to_string(WR_EOS_ID)},
        // Unigram training sums in the order of its threads: a fixed number, the same everywhere.
        {"num_threads", "4"},
        {"max_sentence_length", "65536"},
        {"minloglevel", "3"},
    };
}

// The number behind the last "<= " or " vs " of a message of the library; 0 when there is none.
int limit_behind(const std::string &text, const char *mark) {
    size_t at = text.rfind(mark);
    return at == std::string::npos ? 0 : std::atoi(text.c_str() + at + std::string(mark).size());
}

wr_status train_failed(const wr_subword_options &o, const spm::util::Status &status,
                       const Lines &lines, wr_error *err) {
    const std::string text = status.ToString();
    int limit;
    if (!lines.any())
        return wr_fail(err, WR_ERR_INPUT,
                       "no text to train the subword vocabulary on: every line "
                       "is empty");
    if (text.find("too high") != std::string::npos && (limit = limit_behind(text, "<= ")) > 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "a vocabulary of %d is too large for this text, which "
                       "gives at most %d pieces: use --vocab %d or less, or more text",
                       o.vocab, limit, limit);
    if (text.find("smaller than required") != std::string::npos &&
        (limit = limit_behind(text, " vs ")) > 0)
        return wr_fail(err, WR_ERR_INPUT,
                       "a vocabulary of %d is too small: the characters%s and "
                       "special pieces of this text alone are %d; use --vocab %d or more%s",
                       o.vocab, o.byte_fallback ? ", the 256 bytes" : "", limit, limit,
                       o.byte_fallback ? ", or no byte fallback" : "");
    return wr_fail(err, WR_ERR_LIBRARY, "SentencePiece cannot train: %s", text.c_str());
}

wr_status check_options(const wr_subword_options &o, wr_error *err) {
    if (o.vocab <= WR_SPECIAL_IDS || o.vocab > 1000000)
        return wr_fail(err, WR_ERR_INPUT, "vocabulary size %d: allowed is %d to 1000000", o.vocab,
                       WR_SPECIAL_IDS + 1);
    if (!(o.coverage >= 0.9 && o.coverage <= 1.0))
        return wr_fail(err, WR_ERR_INPUT, "character coverage %g: allowed is 0.9 to 1", o.coverage);
    return WR_OK;
}

wr_status check_special_ids(const spm::SentencePieceProcessor &p, const char *name, wr_error *err) {
    if (p.pad_id() == WR_PAD_ID && p.unk_id() == WR_UNK_ID && p.bos_id() == WR_BOS_ID &&
        p.eos_id() == WR_EOS_ID)
        return WR_OK;
    return wr_fail(err, WR_ERR_INPUT,
                   "%s: its special ids are pad=%d unk=%d bos=%d eos=%d, needed "
                   "are 0 1 2 3: train it with `spm_train --pad_id=0 --unk_id=1 --bos_id=2 "
                   "--eos_id=3`",
                   name, p.pad_id(), p.unk_id(), p.bos_id(), p.eos_id());
}

wr_status make_model(std::string bytes, const char *name, wr_subword **out, wr_error *err) {
    std::unique_ptr<wr_subword> model(new wr_subword);
    model->bytes = std::move(bytes);
    const spm::util::Status loaded = model->processor.LoadFromSerializedProto(model->bytes);
    if (model->bytes.empty() || !loaded.ok() || model->processor.GetPieceSize() < WR_SPECIAL_IDS)
        return wr_fail(err, WR_ERR_INPUT, "%s: not a SentencePiece model, or damaged", name);
    wr_status status = check_special_ids(model->processor, name, err);
    if (status == WR_OK) *out = model.release();
    return status;
}

} // namespace

void wr_ids_free(wr_ids *ids) {
    std::free(ids->id);
    *ids = wr_ids{};
}

wr_subword_options wr_subword_defaults(int vocab) {
    wr_subword_options o{};
    o.kind = WR_SUBWORD_BPE;
    o.vocab = vocab;
    o.exact = true;
    o.byte_fallback = vocab >= WR_SUBWORD_BYTES_FROM;
    o.coverage = o.byte_fallback ? 0.9995 : 1.0;
    return o;
}

wr_status wr_subword_train(const wr_subword_options *options, wr_subword_next *next, void *context,
                           wr_subword **out, wr_error *err) {
    *out = nullptr;
    return guarded(err, "training the subword vocabulary", [&] {
        wr_status status = check_options(*options, err);
        if (status != WR_OK) return status;
        Lines lines(next, context);
        std::string bytes;
        const spm::util::Status trained =
            spm::SentencePieceTrainer::Train(arguments(*options), &lines, &bytes);
        if (!trained.ok()) return train_failed(*options, trained, lines, err);
        return make_model(std::move(bytes), "the trained subword model", out, err);
    });
}

wr_status wr_subword_load_memory(const void *bytes, size_t n, const char *name, wr_subword **out,
                                 wr_error *err) {
    *out = nullptr;
    return guarded(err, "loading a subword model", [&] {
        return make_model(std::string(static_cast<const char *>(bytes), n), name, out, err);
    });
}

wr_status wr_subword_load(const char *path, wr_subword **out, wr_error *err) {
    char *bytes;
    size_t n;
    *out = nullptr;
    wr_status status = wr_file_read(path, &bytes, &n, err);
    if (status == WR_OK) status = wr_subword_load_memory(bytes, n, path, out, err);
    std::free(bytes);
    return status;
}

void wr_subword_free(wr_subword *model) { delete model; }

const void *wr_subword_bytes(const wr_subword *model, size_t *n) {
    *n = model->bytes.size();
    return model->bytes.data();
}

int wr_subword_vocab(const wr_subword *model) { return model->processor.GetPieceSize(); }

int32_t wr_subword_id(const wr_subword *model, const char *piece) {
    return model->processor.PieceToId(piece);
}

const char *wr_subword_piece(const wr_subword *model, int32_t id) {
    if (id < 0 || id >= model->processor.GetPieceSize()) return nullptr;
    return model->processor.IdToPiece(id).c_str();
}

wr_status wr_subword_encode(const wr_subword *model, const char *line, size_t n, wr_ids *out,
                            wr_error *err) {
    return guarded(err, "encoding a line", [&] {
        std::vector<int> ids;
        const spm::util::Status done = model->processor.Encode(absl::string_view(line, n), &ids);
        if (!done.ok())
            return wr_fail(err, WR_ERR_LIBRARY, "SentencePiece cannot encode a line: %s",
                           done.ToString().c_str());
        if (!wr_grow(&out->id, &out->cap, out->n + ids.size(), sizeof *out->id))
            return wr_fail_memory(err, "token ids", (out->n + ids.size()) * sizeof *out->id);
        for (int id : ids)
            out->id[out->n++] = id;
        return WR_OK;
    });
}

wr_status wr_subword_decode(const wr_subword *model, const int32_t *ids, size_t n, wr_str *out,
                            wr_error *err) {
    return guarded(err, "decoding ids", [&] {
        const int vocab = model->processor.GetPieceSize();
        for (size_t i = 0; i < n; i++)
            if (ids[i] < 0 || ids[i] >= vocab)
                return wr_fail(err, WR_ERR_INPUT,
                               "token id %d at position %zu: the vocabulary has "
                               "ids 0 to %d",
                               ids[i], i, vocab - 1);
        std::string text;
        const spm::util::Status done =
            model->processor.Decode(std::vector<int>(ids, ids + n), &text);
        if (!done.ok())
            return wr_fail(err, WR_ERR_LIBRARY, "SentencePiece cannot decode: %s",
                           done.ToString().c_str());
        wr_str_bytes(out, text.data(), text.size());
        return out->oom ? wr_fail_memory(err, "decoded text", text.size()) : WR_OK;
    });
}
