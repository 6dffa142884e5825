package backbone

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/runner/backbone/huggingface"
)

// tinyConfig describes the weights of model.
const tinyConfig = `{"model_type":"vit","hidden_size":4,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,"image_size":32}`

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666)); err != nil {
		t.Fatal(err)
	}
}

// model writes a directory with a backbone.
func model(t *testing.T, dir string, fill float32) {
	t.Helper()
	put(t, filepath.Join(dir, "config.json"), tinyConfig)
	arch, err := design.Parse([]byte(tinyConfig))
	if err != nil {
		t.Fatal(err)
	}
	var all []safetensors.Tensor
	shapes, err := design.Shapes(arch)
	if err != nil {
		t.Fatal(err)
	}
	for name, shape := range shapes {
		n := int64(1)
		for _, d := range shape {
			n *= d
		}
		values := make([]float32, n)
		values[0] = fill
		all = append(all, safetensors.FromFloat32("vit."+name, values, shape...))
	}
	if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), all, nil); err != nil {
		t.Fatal(err)
	}
}

func newFinder(t *testing.T) *Finder {
	dir := t.TempDir()
	return &Finder{Cache: filepath.Join(dir, "cache"), HuggingFace: &huggingface.Client{Cache: filepath.Join(dir, "hf"), Offline: true}, Root: filepath.Join(dir, "root")}
}

func TestArchitecture(t *testing.T) {
	for text, want := range map[string]*spec.Architecture{
		// google/vit-base-patch16-224 leaves out what is the default.
		`{"model_type":"vit"}`: {Family: "vit", Dim: 768, Depth: 12, Heads: 12, Mlp: 3072, Patch: 16, GridH: 14, GridW: 14, Eps: 1e-12, QkvBias: true},
		`{"model_type":"vit","image_size":[48,80],"patch_size":[8,8],"hidden_size":12,"num_attention_heads":3,"num_hidden_layers":5,"intermediate_size":20,"layer_norm_eps":1e-6,"qkv_bias":false}`: {
			Family: "vit", Dim: 12, Depth: 5, Heads: 3, Mlp: 20, Patch: 8, GridH: 6, GridW: 10, Eps: 1e-6,
		},
		`{"model_type":"deit"}`: {Family: "deit", Dim: 768, Depth: 12, Heads: 12, Mlp: 3072, Patch: 16, GridH: 14, GridW: 14, Eps: 1e-12, QkvBias: true},
		`{"model_type":"dinov2_with_registers","image_size":518,"patch_size":14}`: {
			Family: "dinov2", Dim: 768, Depth: 12, Heads: 12, Mlp: 3072, Patch: 14, GridH: 37, GridW: 37, Eps: 1e-6, QkvBias: true, Registers: 4,
		},
		dinov2SmallConfig: {Family: "dinov2", Dim: 384, Depth: 12, Heads: 6, Mlp: 1536, Patch: 14, GridH: 37, GridW: 37, Eps: 1e-6, QkvBias: true},
	} {
		got, err := design.Parse([]byte(text))
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%s:\ngot  %v (%v)\nwant %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"model_type":"vit"`:   "not JSON",
		`{}`:                    "no model_type",
		`{"model_type":"swin"}`: "must be vit, deit, dinov2 or",
		`{"model_type":"vit","hidden_act":"quick_gelu"}`:  "must be gelu",
		`{"model_type":"dinov2","use_swiglu_ffn":true}`:   "use_swiglu_ffn",
		`{"model_type":"vit","num_attention_heads":5}`:    "among 5 heads",
		`{"model_type":"vit","num_attention_heads":0}`:    "among 0 heads",
		`{"model_type":"vit","num_channels":1}`:           "images have 3",
		`{"model_type":"vit","patch_size":[16,8]}`:        "square",
		`{"model_type":"vit","patch_size":0}`:             "square",
		`{"model_type":"vit","image_size":8}`:             "smaller than a patch",
		`{"model_type":"vit","image_size":[224]}`:         "pair",
		`{"model_type":"vit","hidden_size":"768"}`:        "configuration of a model",
		`{"model_type":"vit","num_hidden_layers":0}`:      "cannot be",
		`{"model_type":"vit","layer_norm_eps":0}`:         "layer_norm_eps",
		`{"model_type":"dinov2","mlp_ratio":1e30}`:        "cannot be",
		`{"model_type":"vit","hidden_size":-1}`:           "configuration of a model",
		`{"model_type":"dinov2","num_register_tokens":4}`: "dinov2 has none",
	} {
		if got, err := design.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %q", text, got, err, want)
		}
	}
}

func TestNormalization(t *testing.T) {
	dir := t.TempDir()
	check := func(family, want string) {
		t.Helper()
		mean, std, err := readNormalization(dir, row(t, family))
		got := fmt.Sprint(mean, std)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	check("vit", "[0.5 0.5 0.5] [0.5 0.5 0.5]")
	check("dinov2", "[0.485 0.456 0.406] [0.229 0.224 0.225]")
	check("deit", "[0.485 0.456 0.406] [0.229 0.224 0.225]")
	file := filepath.Join(dir, "preprocessor_config.json")
	put(t, file, `{"image_mean":[0.1,0.2,0.3],"image_std":[0.4,0.5,0.6]}`)
	check("vit", "[0.1 0.2 0.3] [0.4 0.5 0.6]")
	put(t, file, `{"do_normalize":false,"image_mean":[0.1,0.2,0.3]}`)
	check("vit", "[0 0 0] [1 1 1]")
	put(t, file, `{"image_mean":[0.1,0.2]}`)
	check("vit", "three numbers")
	put(t, file, `{"image_std":[0,1,1]}`)
	check("vit", "above 0")
	put(t, file, `[]`)
	check("vit", "preprocessor")
	// trial-data F5: what transformers would see may be asked for by mistake.
	for text, want := range map[string]string{
		`{"image_mean":[127.5,127.5,127.5],"image_std":[127.5,127.5,127.5]}`:        "is above 1, the most that a pixel is",
		`{"do_rescale":false,"image_mean":[0.5,0.5,0.5],"image_std":[0.5,0.5,0.5]}`: "are of pixels from 0 to 1",
		`{"rescale_factor":0}`:           "rescale_factor is 0",
		`{"rescale_factor":1e999}`:       "is not the configuration",
		`{"do_flip_channel_order":true}`: "do_flip_channel_order is not supported",
		`{"image_processor_type":"SwinImageProcessor","image_mean":[0.5,0.5,0.5]}`: "what SwinImageProcessor takes instead is not known",
		`{"image_mean":[-1,0,0]}`: "below 0",
	} {
		put(t, file, text)
		check("vit", want)
	}
	// The usual factor moves nothing, however it is rounded.
	put(t, file, `{"do_rescale":true,"rescale_factor":0.00392156862745098,"image_mean":[0.485,0.456,0.406],"image_std":[0.229,0.224,0.225]}`)
	check("dinov2", "[0.485 0.456 0.406] [0.229 0.224 0.225]")
}

func TestResolveDirectory(t *testing.T) {
	h := newFinder(t)
	dir := filepath.Join(h.Root, "models", "tiny")
	model(t, dir, 1)
	absolute, err := h.Resolve(dir)
	if err != nil {
		t.Fatal(err)
	}
	relative, err := h.Resolve("models/tiny")
	if err != nil {
		t.Fatal(err)
	}
	if relative.Path != absolute.Path || relative.Digest != absolute.Digest || relative.Name != "models/tiny" {
		t.Errorf("got %+v and %+v", relative, absolute)
	}
	if want, err := filehash.Of(absolute.Path); err != nil || absolute.Digest != want {
		t.Errorf("digest %s, want %s (%v)", absolute.Digest, want, err)
	}
	if a := absolute.Arch; a.Family != "vit" || a.GridH != 2 || len(absolute.Mean) != 3 || absolute.Source == "" {
		t.Errorf("got %+v", absolute)
	}
}

// The digest follows the file: it is remembered while nothing changes, and
// never after a change, even one that keeps size and modification time.
func TestDigestFollowsTheFile(t *testing.T) {
	h := newFinder(t)
	dir := filepath.Join(h.Root, "tiny")
	model(t, dir, 1)
	first, err := h.Resolve("tiny")
	if err != nil {
		t.Fatal(err)
	}
	notes, err := filepath.Glob(filepath.Join(h.Cache, "digests", "*.json"))
	if err != nil || len(notes) != 1 {
		t.Fatalf("remembered %v, %v", notes, err)
	}
	note := func(change func(k *known)) {
		t.Helper()
		k, ok := readNote(notes[0])
		if !ok {
			t.Fatal("no note")
		}
		change(&k)
		text, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		put(t, notes[0], string(text))
	}
	digest := func(what, want string) {
		t.Helper()
		if b, err := h.Resolve("tiny"); err != nil || b.Digest != want {
			t.Errorf("%s: %v, %v", what, b, err)
		}
	}
	other := strings.Repeat("ab", 32)
	// A file that was hashed as soon as it was written may change within the same
	// tick of the clock.
	note(func(k *known) { k.SHA256 = other; *k = k.sealed() })
	digest("a fresh file", first.Digest)
	// What is remembered is what is answered: the file is not read again.
	note(func(k *known) { k.SHA256, k.Read = other, k.Read+int64(time.Hour); *k = k.sealed() })
	digest("read again", other)
	// trial-reliability 27: a damaged note is not believed.
	note(func(k *known) { k.SHA256 = strings.Repeat("cd", 32) })
	digest("a damaged note", first.Digest)
	put(t, notes[0], "damaged")
	digest("no note", first.Digest)

	info, err := os.Stat(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	note(func(k *known) { k.Read += int64(time.Hour); *k = k.sealed() })
	model(t, dir, 2)
	if err := os.Chtimes(first.Path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if b, err := h.Resolve("tiny"); err != nil || b.Digest == first.Digest {
		t.Errorf("the old digest for a new file: %v, %v", b, err)
	}
}

func TestResolveHuggingFace(t *testing.T) {
	h := newFinder(t)
	commit := strings.Repeat("0123456789", 4)
	repo := filepath.Join(h.HuggingFace.Cache, "models--some--model")
	// Snapshots hold links to blobs, as huggingface_hub writes them.
	model(t, filepath.Join(repo, "blobs"), 1)
	snapshot := filepath.Join(repo, "snapshots", commit)
	if err := os.MkdirAll(snapshot, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"config.json", "model.safetensors"} {
		if err := os.Symlink("../../blobs/"+f, filepath.Join(snapshot, f)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(repo, "refs", "main"), commit)
	for _, name := range []string{"some/model", "hf:some/model", "some/model@main", "hf:some/model@main", "some/model@" + commit} {
		b, err := h.Resolve(name)
		if err != nil || !strings.Contains(b.Source, commit) {
			t.Errorf("%s: got %v, %v", name, b, err)
		}
	}
	for _, name := range []string{"some/other", "some/model@v2", "hf:some/other@v2"} {
		var missing *MissingError
		_, err := h.Resolve(name)
		if !errors.As(err, &missing) || !strings.Contains(missing.Cure, "`runner models fetch ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(snapshot, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Resolve("some/model"); err == nil || !strings.Contains(err.Error(), "lacks model.safetensors") {
		t.Errorf("got %v", err)
	}
	// Python has fetched the weights in PyTorch's own form.
	put(t, filepath.Join(snapshot, "pytorch_model.bin"), "")
	for _, ask := range []func() (*Backbone, error){
		func() (*Backbone, error) { return h.Resolve("some/model") },
		func() (*Backbone, error) { return h.Fetch(t.Context(), "some/model", nil) },
	} {
		if _, err := ask(); err == nil || !strings.Contains(err.Error(), "has pytorch_model.bin") || !strings.Contains(err.Error(), "save_pretrained(") {
			t.Errorf("got %v", err)
		}
	}
}

// hugging is a server with one model.
func hugging(t *testing.T, repo string, files map[string]string) string {
	t.Helper()
	const commit = "00112233445566778899aabbccddeeff00112233"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/resolve/")
		_, file, _ := strings.Cut(rest, "/")
		text, ok := files[file]
		w.Header().Set("X-Repo-Commit", commit)
		switch {
		case name != repo:
			w.Header().Set("X-Error-Code", "RepoNotFound")
			w.WriteHeader(http.StatusNotFound)
		case !ok:
			w.Header().Set("X-Error-Code", "EntryNotFound")
			w.WriteHeader(http.StatusNotFound)
		default:
			sum := sha256.Sum256([]byte(text))
			w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
			http.ServeContent(w, r, file, time.Time{}, strings.NewReader(text))
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Fetch downloads what the cache lacks, once.
func TestFetchFromHuggingFace(t *testing.T) {
	h := newFinder(t)
	dir := filepath.Join(t.TempDir(), "m")
	model(t, dir, 3)
	weights, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	h.HuggingFace.Endpoint = hugging(t, "some/model", map[string]string{"config.json": tinyConfig, "model.safetensors": string(weights)})
	if _, err := h.Fetch(t.Context(), "hf:some/model", nil); err == nil || !strings.Contains(err.Error(), "HF_HUB_OFFLINE") {
		t.Errorf("offline: %v", err)
	}
	h.HuggingFace.Offline = false
	b, err := h.Fetch(t.Context(), "hf:some/model", nil)
	if err != nil || b.Name != "hf:some/model" || !strings.Contains(b.Source, "some/model at 0011") {
		t.Fatalf("got %+v, %v", b, err)
	}
	if again, err := h.Resolve("some/model"); err != nil || again.Digest != b.Digest {
		t.Errorf("not found again: %v, %v", again, err)
	}
	h.HuggingFace.Endpoint = hugging(t, "other/model", map[string]string{"config.json": tinyConfig})
	if _, err := h.Fetch(t.Context(), "other/model", nil); err == nil || !strings.Contains(err.Error(), "only PyTorch files") {
		t.Errorf("a model without safetensors: %v", err)
	}
}

// The short name takes what it finds first, and says which it is.
func TestDinov2SmallOfHuggingFace(t *testing.T) {
	h := newFinder(t)
	dir := filepath.Join(t.TempDir(), "m")
	model(t, dir, 3)
	weights, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	h.HuggingFace.Offline = false
	h.HuggingFace.Endpoint = hugging(t, "facebook/dinov2-small", map[string]string{"config.json": tinyConfig, "model.safetensors": string(weights)})
	b, err := h.Fetch(t.Context(), "dinov2-small", nil)
	if err != nil || b.Name != "dinov2-small" || !strings.Contains(b.Source, "facebook/dinov2-small at 0011") {
		t.Fatalf("got %+v, %v", b, err)
	}
	if again, err := h.Resolve("dinov2-small"); err != nil || again.Path != b.Path {
		t.Errorf("got %+v, %v", again, err)
	}
}

// What is not there says what to run; it is never a bare file error.
func TestMissing(t *testing.T) {
	h := newFinder(t)
	put(t, filepath.Join(h.Root, "empty", "README"), "")
	put(t, filepath.Join(h.Root, "sharded", "model.safetensors.index.json"), "{}")
	model(t, filepath.Join(h.Root, "bare"), 1)
	if err := os.Remove(filepath.Join(h.Root, "bare", "config.json")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(h.Root, "file"), "")
	for name, want := range map[string]string{
		"dinov2-small": "run `runner models fetch dinov2-small`",
		"dinov3-small": "use one of dinov2-small",
		"google/vit":   "runner models fetch google/vit",
		"./nowhere":    "no directory here",
		"/no/where":    "no directory here",
		"file":         "is a file",
		"empty":        "has no model.safetensors",
		"sharded":      "has model.safetensors.index.json",
		"bare":         "has no config.json",
	} {
		_, err := h.Resolve(name)
		var missing *MissingError
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), want) || missing.Name != name {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if _, err := h.Fetch(t.Context(), "dinov3-small", nil); err == nil || !strings.Contains(err.Error(), "dinov2-small") {
		t.Errorf("fetching the unknown: %v", err)
	}
}

// trial-data F17: what is on this machine is not asked for elsewhere, and neither
// is what a directory here is mistyped as.
func TestLocalNamesStayHere(t *testing.T) {
	h := newFinder(t)
	asked := false
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(s.Close)
	h.HuggingFace.Offline, h.HuggingFace.Endpoint = false, s.URL
	put(t, filepath.Join(h.Root, "backbones", "bin", "pytorch_model.bin"), "")
	put(t, filepath.Join(h.Root, "backbones", "bin", "config.json"), tinyConfig)
	model(t, filepath.Join(h.Root, "backbones", "bare"), 1)
	if err := os.Remove(filepath.Join(h.Root, "backbones", "bare", "config.json")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"backbones/bin":  "save_pretrained(",
		"backbones/bare": "has no config.json",
		"backbones/tiny": "is no directory here, although backbones/ is one: name one that holds model.safetensors and config.json; a model of Hugging Face is hf:backbones/tiny",
	} {
		if _, err := h.Fetch(t.Context(), name, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if asked {
		t.Error("the server was asked")
	}
}

// trial-reliability 24: what is no file is not read, and no configuration takes
// for ever.
func TestWhatIsNoBackbone(t *testing.T) {
	h := newFinder(t)
	for _, name := range []string{"model.safetensors", "config.json", "preprocessor_config.json"} {
		dir := filepath.Join(h.Root, "of-"+name)
		model(t, dir, 1)
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Resolve("./of-" + name); err == nil || !strings.Contains(err.Error(), path+" is a named pipe, not a regular file") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for text, want := range map[string]string{
		`{"model_type":"vit","num_hidden_layers":1000000000}`:                                  "num_hidden_layers is 1000000000, and at most 1000 is read",
		`{"model_type":"vit","hidden_size":1000000,"num_attention_heads":1}`:                   "hidden_size is 1000000",
		`{"model_type":"vit","intermediate_size":100000000}`:                                   "intermediate_size is 100000000",
		`{"model_type":"vit","image_size":[224,4000000000],"patch_size":1}`:                    "image_size is 4000000000",
		`{"model_type":"dinov2_with_registers","num_register_tokens":4000000}`:                 "num_register_tokens is 4000000",
		`{"model_type":"dinov2","hidden_size":60000,"mlp_ratio":1000,"num_attention_heads":1}`: "cannot be",
	} {
		if _, err := design.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// Weights that do not belong to the configuration beside them.
func TestMixedUp(t *testing.T) {
	h := newFinder(t)
	dir := filepath.Join(h.Root, "tiny")
	model(t, dir, 1)
	put(t, filepath.Join(dir, "config.json"), strings.Replace(tinyConfig, `"image_size":32`, `"image_size":64`, 1))
	if _, err := h.Resolve("tiny"); err == nil || !strings.Contains(err.Error(), "[1 5 4]") || !strings.Contains(err.Error(), "[1 17 4]") {
		t.Errorf("got %v", err)
	}
	// trial-data F18: any tensor that does not fit.
	put(t, filepath.Join(dir, "config.json"), strings.Replace(tinyConfig, `"intermediate_size":8`, `"intermediate_size":16`, 1))
	if _, err := h.Resolve("tiny"); err == nil || !strings.Contains(err.Error(), "vit.encoder.layer.0.intermediate.dense.weight is F32 [8 4], wanted [16 4]") {
		t.Errorf("got %v", err)
	}
	put(t, filepath.Join(dir, "config.json"), strings.Replace(tinyConfig, `"num_hidden_layers":1`, `"num_hidden_layers":2`, 1))
	if _, err := h.Resolve("tiny"); err == nil || !strings.Contains(err.Error(), "16 missing") {
		t.Errorf("got %v", err)
	}
	put(t, filepath.Join(dir, "model.safetensors"), "damaged")
	if _, err := h.Resolve("tiny"); err == nil || !strings.Contains(err.Error(), "not a safetensors file") {
		t.Errorf("got %v", err)
	}
}

// A fetch that fails leaves the cache as it was and says what to do.
func TestFetchFails(t *testing.T) {
	h := newFinder(t)
	bin := t.TempDir()
	put(t, filepath.Join(bin, "python3"), "#!/bin/sh\necho 'Temporary failure in name resolution'\nexit 1\n")
	if err := os.Chmod(filepath.Join(bin, "python3"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	_, err := h.Fetch(t.Context(), "dinov2-small", nil)
	if err == nil || !strings.Contains(err.Error(), "check the network") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	left, err := os.ReadDir(filepath.Join(h.Cache, "backbones"))
	if err != nil || len(left) != 1 || left[0].IsDir() {
		t.Errorf("left %v, %v", left, err)
	}
}

// A damaged entry in the cache is not used; Resolve says how to repair it.
func TestDamagedEntry(t *testing.T) {
	h := newFinder(t)
	model(t, h.dinov2SmallDir(), 1)
	_, err := h.Resolve("dinov2-small")
	var missing *MissingError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "damaged") || !strings.Contains(missing.Cure, "models fetch") {
		t.Errorf("got %v", err)
	}
}

// The real backbone, when it has been fetched; on CI it must have been.
func TestDinov2Small(t *testing.T) {
	h, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.Resolve("dinov2-small")
	var missing *MissingError
	if errors.As(err, &missing) && os.Getenv("CI") != "true" {
		t.Logf("not fetched, nothing to check: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Exactly the tensors of Dinov2Model with this configuration.
	dim, mlp := int64(b.Arch.Dim), int64(b.Arch.Mlp)
	want := map[string][]int64{
		"embeddings.cls_token":                          {1, 1, dim},
		"embeddings.mask_token":                         {1, dim},
		"embeddings.position_embeddings":                {1, 1 + int64(b.Arch.GridH*b.Arch.GridW), dim},
		"embeddings.patch_embeddings.projection.weight": {dim, 3, int64(b.Arch.Patch), int64(b.Arch.Patch)},
		"embeddings.patch_embeddings.projection.bias":   {dim},
		"layernorm.weight":                              {dim},
		"layernorm.bias":                                {dim},
	}
	for i := range b.Arch.Depth {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		for name, shape := range map[string][2]int64{
			"attention.attention.query": {dim, dim}, "attention.attention.key": {dim, dim}, "attention.attention.value": {dim, dim},
			"attention.output.dense": {dim, dim}, "mlp.fc1": {mlp, dim}, "mlp.fc2": {dim, mlp},
		} {
			want[layer+name+".weight"], want[layer+name+".bias"] = shape[:], shape[:1]
		}
		for _, name := range []string{"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "layer_scale1.lambda1", "layer_scale2.lambda1"} {
			want[layer+name] = []int64{dim}
		}
	}
	names := f.Names()
	if len(names) != len(want) {
		t.Errorf("%d tensors, want %d", len(names), len(want))
	}
	for _, name := range names {
		got, _ := f.Get(name)
		if fmt.Sprint(got.Shape) != fmt.Sprint(want[name]) {
			t.Errorf("%s has the shape %v, want %v", name, got.Shape, want[name])
		}
	}
}
