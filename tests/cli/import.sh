#!/usr/bin/env bash
# weir import: a state dict with the names of the authors' FlowSeq becomes a run; what does not fit
# is told whole, and nothing is left behind then.
# Usage: import.sh WEIR SOURCE_FOLDER BUILD_FOLDER
source "$(dirname "$0")/common.bash"
recipe=$2/recipes/flowseq-reference.yaml

# also "TEXT": the last message says this, too.
also() { [[ $said == *"$1"* ]] || fail "said '$said', not '$1'"; }

# has "WORDS" FILE: a line is these words, whatever the blanks between them.
has() { tr -s ' ' < "$2" | sed 's/^ //' | grep -qxF -- "$1" || fail "$2: no line '$1': $(cat "$2")"; }

# ---- the names and shapes of the tiny model, as the authors' program gives them ----

norm() { printf '%s.weight %d\n%s.bias %d\n' "$1" "$2" "$1" "$2"; }
attention() { # PREFIX WIDTH
    printf '%s.in_proj_weight %d,%d\n%s.in_proj_bias %d\n' "$1" $((3 * $2)) "$2" "$1" $((3 * $2))
    norm "$1.layer_norm" "$2"
}
linear() { printf '%s.weight %d,%d\n%s.bias %d\n' "$1" "$3" "$2" "$1" "$3"; } # PREFIX IN OUT
normed() { printf '%s.bias %d\n%s.weight_g %d,1\n%s.weight_v %d,%d\n' "$1" "$3" "$1" "$3" "$1" "$3" "$2"; }
ffn() { # PREFIX WIDTH HIDDEN
    linear "$1.linear1" "$2" "$3"
    linear "$1.linear2" "$3" "$2"
    norm "$1.layer_norm" "$2"
}
layer() { # PREFIX WIDTH HIDDEN
    attention "$1.slf_attn" "$2"
    attention "$1.enc_attn" "$2"
    ffn "$1.pos_ffn" "$2" "$3"
}
coupling() { # PREFIX WIDTH: of one half of 24 features, or of all
    if [ "$2" -eq 12 ]; then echo "$1.net.src_proj.weight 12,24"; fi
    layer "$1.net.transformer" "$2" 20
    normed "$1.net.linear.linear" "$2" $((2 * $2))
}
actnorm() { printf '%s.log_scale 24\n%s.bias 24\n' "$1" "$1"; }
scale() { # NUMBER
    local block=prior.flow.blocks.$1 unit
    actnorm "$block.pos_attn.actnorm"
    coupling "$block.pos_attn.coupling_up" 12
    attention "$block.pos_attn.coupling_up.net.pos_attn" 12
    coupling "$block.pos_attn.coupling_down" 12
    for half in 1 2; do
        unit=$block.steps.0.unit$half
        actnorm "$block.steps.0.actnorm$half"
        echo "$block.steps.0.linear$half.weight 8,8"
        coupling "$unit.coupling1_up" 12
        coupling "$unit.coupling1_down" 12
        actnorm "$unit.actnorm1"
        coupling "$unit.coupling2_up" 12
        coupling "$unit.coupling2_down" 12
        if [ "$1" -eq 2 ]; then continue; fi
        actnorm "$unit.actnorm2"
        coupling "$unit.coupling3_up" 24
        coupling "$unit.coupling3_down" 24
    done
    if [ "$1" -lt 2 ]; then coupling "$block.prior" 12; fi
}
names() {
    echo "encoder.embed.weight 17,24"
    for i in 0 1; do
        attention "encoder.core.layers.$i.slf_attn" 24
        ffn "encoder.core.layers.$i.pos_ffn" 24 16
    done
    for i in 0 1 2; do scale "$i"; done
    linear prior._length_predictor.ctx_proj.0 24 24
    linear prior._length_predictor.ctx_proj.2 24 24
    linear prior._length_predictor.diff 24 17
    layer posterior.core.layers.0 24 16
    normed posterior.core.mu.linear 24 24
    normed posterior.core.logvar.linear 24 24
    echo "decoder.readout.bias 17"
    attention decoder.pos_attn 24
    layer decoder.layers.0 24 16
}

# safetensors FILE < NAMES: tensors of zeros.
safetensors() {
    local header offset
    header=$(awk 'BEGIN { printf "{" }
        { n = 4; k = split($2, size, ","); for (i = 1; i <= k; i++) n *= size[i]
          printf "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}",
                 (NR > 1 ? "," : ""), $1, $2, at, at + n
          at += n }
        END { printf "}\n%d", at }')
    offset=${header##*$'\n'}
    header=${header%$'\n'*}
    while [ $((${#header} % 8)) -ne 0 ]; do header+=' '; done
    {
        # shellcheck disable=SC2059
        printf "\\x$(printf %02x $((${#header} & 255)))\\x$(printf %02x $((${#header} >> 8 & 255)))"
        # shellcheck disable=SC2059
        printf "\\x$(printf %02x $((${#header} >> 16 & 255)))"
        head -c 5 /dev/zero
        printf '%s' "$header"
        head -c "$offset" /dev/zero
    } > "$1"
}

names > names.txt
[ "$(wc -l < names.txt)" -eq 834 ] || fail "the tiny model has 834 tensors, not $(wc -l < names.txt)"
safetensors model.safetensors < names.txt

# ---- a run ----

"$weir" import model.safetensors --from flowseq --recipe "$recipe" --out new/run > out.txt
has "new/run: 834 tensors as 926 parameters, vocabularies of 17 and 17 pieces" out.txt
[ "$(cat new/run/checkpoints/last)" = step-0 ] || fail "last is not step-0"
[ "$(cat new/run/checkpoints/best)" = step-0 ] || fail "best is not step-0"
[ "$(ls new)" = run ] || fail "something else lies beside the run: $(ls new)"
"$weir" info new/run --depth 0 > info.txt
has "vocabularies source 17, target 17 pieces" info.txt
has "total 139006 926 tensors" info.txt
"$weir" info "$recipe" --depth 0 > info.txt
has "total 139006 926 tensors" info.txt
refuse 1 "new/run exists already" import model.safetensors --recipe "$recipe" --out new/run
mkdir empty
"$weir" import model.safetensors --recipe "$recipe" --out empty/ > out.txt
cmp new/run/checkpoints/step-0.safetensors empty/checkpoints/step-0.safetensors

# Buffers and second names of shared tables are passed over; any one of the names will do.
{
    sed 's/^encoder.embed.weight/decoder.readout.weight/' names.txt
    echo "posterior.core.tgt_embed.weight 17,24"
    echo "decoder.pos_enc._float_tensor 1"
    echo "prior.flow.blocks.0.steps.0.linear1.weight_inv 8,8"
} | safetensors shared.safetensors
"$weir" import shared.safetensors --recipe "$recipe" --out shared > out.txt
cmp new/run/checkpoints/step-0.safetensors shared/checkpoints/step-0.safetensors

# Separate tables.
{
    sed 's/^decoder.readout.bias 17/decoder.readout.bias 9/' names.txt
    echo "posterior.tgt_embed.weight 9,24"
    echo "decoder.readout.weight 9,24"
} | safetensors separate.safetensors
"$weir" import separate.safetensors --recipe "$recipe" --out separate --set model.embeddings=separate \
    --set data.src_vocab=0 --set data.tgt_vocab=0 > out.txt
has "separate: 836 tensors as 928 parameters, vocabularies of 17 and 9 pieces" out.txt
has "src_vocab: 17" separate/recipe.yaml
has "tgt_vocab: 9" separate/recipe.yaml

# ---- what does not fit ----

sed -e '/^decoder.pos_attn.in_proj_bias /d' -e '/^posterior.core.mu.linear.weight_g /d' \
    -e 's/^\(prior._length_predictor.diff.weight\) .*/\1 15,24/' -e '$s/$/\nsurplus 2,3/' \
    names.txt | safetensors wrong.safetensors
refuse 1 "wrong.safetensors: the tensors are not those of the model" \
    import wrong.safetensors --recipe "$recipe" --out run
also "2 missing:"
also "    posterior.core.mu.linear.weight_g [24, 1]"
also "    decoder.pos_attn.in_proj_bias [72]"
also "1 of another shape:"
also "    prior._length_predictor.diff.weight [17, 24], there [15, 24]"
also "1 not of the model:"
also "    surplus [2, 3]"
refuse 1 "120 of another shape" import model.safetensors --recipe "$recipe" --out run \
    --set prior.hidden=16
also "and 110 more"
refuse 1 "data.src_vocab = 12" import model.safetensors --recipe "$recipe" --out run \
    --set data.src_vocab=12 --set data.tgt_vocab=12
refuse 1 "prior.last_unit: the authors' program has no prior like this" import model.safetensors \
    --recipe "$recipe" --out run --set prior.last_unit=actnorm
refuse 1 "prior.layers: the authors' program has no prior like this" import model.safetensors \
    --recipe "$recipe" --out run --set "prior.layers=[position, step]" --set prior.layers=step
refuse 1 "flowseq.decoder" import model.safetensors --recipe "$recipe" --out run \
    --set flowseq.decoder=lstm
refuse 1 "flowseq.literal" import model.safetensors --recipe "$recipe" --out run \
    --set flowseq.literal=true
refuse 1 "model.type must be flowseq" import model.safetensors \
    --recipe "$2/recipes/transformer-tiny.yaml" --out run
head -c 4000 model.safetensors > cut.safetensors
refuse 1 "cut.safetensors: " import cut.safetensors --recipe "$recipe" --out run
echo "other 2,2" | safetensors other.safetensors
refuse 1 "other.safetensors: there is no tensor decoder.readout.bias with 1 axis" \
    import other.safetensors --recipe "$recipe" --out run
refuse 1 "nothing.safetensors: " import nothing.safetensors --recipe "$recipe" --out run
refuse 2 "--from" import model.safetensors --from other --recipe "$recipe" --out run
refuse 2 "--recipe" import model.safetensors --out run
if compgen -G 'run*' > /dev/null; then fail "a failed import left something: $(ls)"; fi
touch file
refuse 1 "file: exists and is not a directory" import model.safetensors --recipe "$recipe" --out file/run
echo "import.sh: fine"
