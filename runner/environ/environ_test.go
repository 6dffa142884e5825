package environ

import (
	"slices"
	"strings"
	"testing"
)

// No plug-in sees a token, and no engine does (trial-reliability 10).
func TestSecretsStay(t *testing.T) {
	secrets := []string{
		"HF_TOKEN=hf_x", "HUGGING_FACE_HUB_TOKEN=hf_x", "HF_TOKEN_PATH=/home/u/token", "hf_token=x", "WANDB_API_KEY=x", "GITHUB_TOKEN=x", "GHTOKEN=x",
		"OPENAI_API_KEY=x", "MY_SECRET=x", "CLIENT_SECRET_ID=x", "DB_PASSWORD=x", "DBPASSWORD=x", "PGPASSWORD=x", "MYSQL_PWD=x",
		"AWS_ACCESS_KEY_ID=x", "AWS_PROFILE=x", "GOOGLE_APPLICATION_CREDENTIALS=/x.json", "AZURE_CLIENT_ID=x", "SSH_AUTH_SOCK=/x",
		"CI_JOB_JWT=x", "GITHUB_PAT=x", "PYTHON_KEYRING_PASSWORD=x", "XDG_TOKEN=x", "LC_SECRET=x", "SENTRY_DSN=x",
		"HTTPS_PROXY=http://me:hidden@proxy:3128", "DATABASE_URL=postgres://me:hidden@db/x", "PIP_INDEX_URL=https://:hidden@pypi.corp/",
		"XDG_MIRROR=https://me:hidden@host",
	}
	for what, kept := range map[string][]string{"plug-in": ForPlugin(secrets), "engine": ForEngine(secrets)} {
		if len(kept) > 0 {
			t.Errorf("a %s sees %s", what, strings.Join(kept, " "))
		}
	}
}

// Both see what they need.
func TestNeedsAreMet(t *testing.T) {
	needs := []string{
		"PATH=/bin", "HOME=/home/u", "USER=u", "LANG=C", "LC_ALL=C.UTF-8", "TZ=UTC", "TMPDIR=/t", "XDG_CACHE_HOME=/c",
		"PYTHONPATH=/p", "PYTHONDONTWRITEBYTECODE=1", "LORALAB_PYTHON=python3", "LD_LIBRARY_PATH=/l", "EMPTY", "GODEBUG=",
	}
	engine := []string{
		"PWD=/work", "OLDPWD=/", "LORALAB_DEVICE=cpu", "LORALAB_THREADS=2", "OMP_NUM_THREADS=2", "MKL_NUM_THREADS=2", "KMP_AFFINITY=compact",
		"CUDA_VISIBLE_DEVICES=0", "CUBLAS_WORKSPACE_CONFIG=:4096:8", "PYTORCH_CUDA_ALLOC_CONF=x", "HTTP_PROXY=http://proxy:3128",
		"TOKENIZERS_PARALLELISM=false", "SLURM_JOB_ID=1", "KEYBOARD=us", "I_MPI_PIN=1", "XAUTHORITY=/x",
	}
	present := func(s string) bool { return strings.Contains(s, "=") }
	want := slices.DeleteFunc(slices.Clone(needs), func(s string) bool { return !present(s) })
	if got := ForPlugin(slices.Concat(needs, engine)); !slices.Equal(got, want) {
		t.Errorf("a plug-in sees %q", got)
	}
	if got := ForEngine(slices.Concat(needs, engine)); !slices.Equal(got, slices.Concat(want, engine)) {
		t.Errorf("an engine sees %q", got)
	}
	if ForPlugin(nil) == nil || ForEngine(nil) == nil {
		t.Error("an environment of nothing would be taken for all of it")
	}
}
