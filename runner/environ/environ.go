// Package environ chooses the variables of the environment that programs see
// which runner starts. The environment holds tokens and passwords; no plug-in and
// no engine needs one.
package environ

import (
	"regexp"
	"slices"
	"strings"
)

// pluginNames are the variables that a plug-in may need: to find programs,
// libraries and its interpreter, to write temporary files and caches, to format
// text, and to tune the runtime of Go or Python.
var pluginNames = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL",
	"LANG", "LANGUAGE", "TZ",
	"TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD",
	"VIRTUAL_ENV", "CONDA_PREFIX", "LORALAB_PYTHON",
	"GODEBUG", "GOTRACEBACK", "GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GOCOVERDIR", "GRPC_VERBOSITY", "GRPC_TRACE",
}

// pluginPrefixes begin the names of further ones.
var pluginPrefixes = []string{"LC_", "XDG_", "PYTHON"}

// ForPlugin is what a plug-in sees of an environment: the variables that are
// known to be needed, without those that look like a secret.
func ForPlugin(environment []string) []string {
	return keep(environment, func(name string) bool {
		return slices.Contains(pluginNames, name) || slices.ContainsFunc(pluginPrefixes, func(prefix string) bool {
			return strings.HasPrefix(name, prefix)
		})
	})
}

// ForEngine is what an engine sees of an environment: all of it but what looks
// like a secret. Libraries for computing read variables that nobody can list.
func ForEngine(environment []string) []string {
	return keep(environment, func(string) bool { return true })
}

func keep(environment []string, wanted func(name string) bool) []string {
	kept := []string{} // not nil: to package exec, nil is the whole environment
	for _, entry := range environment {
		name, value, ok := strings.Cut(entry, "=")
		if ok && wanted(name) && !secret(name, value) {
			kept = append(kept, entry)
		}
	}
	return kept
}

// secretWords are words in the names of variables that hold secrets, or that name
// a file or a socket to get one from.
var secretWords = []string{
	"TOKEN", "TOKENS", "KEY", "KEYS", "APIKEY", "SECRET", "SECRETS", "PASS", "PASSPHRASE", "PASSWD", "PWD", "PAT",
	"CREDENTIAL", "CREDENTIALS", "CREDS", "AUTH", "JWT", "COOKIE", "COOKIES", "ASKPASS", "BEARER", "DSN",
}

// secretParts tell a secret wherever they are in a name.
var secretParts = []string{"PASSWORD", "SECRET", "CREDENTIAL"}

// secretPrefixes are of services that no computation needs.
var secretPrefixes = []string{"AWS_", "AZURE_", "GOOGLE_", "GCP_", "WANDB_", "SSH_", "GPG_"}

// login is a name with a password in an address: https://me:hidden@host.
var login = regexp.MustCompile(`://[^/\s@]*:[^/\s@]+@`)

// secret reports whether a variable looks like one that holds a secret.
func secret(name, value string) bool {
	upper := strings.ToUpper(name)
	if upper == "PWD" || upper == "OLDPWD" {
		return false // directories
	}
	has := func(list []string, in func(string, string) bool) bool {
		return slices.ContainsFunc(list, func(s string) bool { return in(upper, s) })
	}
	words := strings.FieldsFunc(upper, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
	return slices.ContainsFunc(words, func(word string) bool {
		return slices.Contains(secretWords, word) || strings.HasSuffix(word, "TOKEN")
	}) ||
		has(secretParts, strings.Contains) || has(secretPrefixes, strings.HasPrefix) || login.MatchString(value)
}
