package wandb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// findKey looks for the key of a server in WANDB_API_KEY, then in netrc.
func findKey(base, home string, getenv func(string) string) (Key, error) {
	if key := getenv("WANDB_API_KEY"); key != "" {
		return NewKey(key), nil
	}
	u, err := url.Parse(base)
	if err != nil {
		return Key{}, err
	}
	machines := []string{u.Host}
	if base == publicURL {
		machines = append(machines, formerHost) // where logins before 0.31 wrote it
	}
	paths := []string{getenv("NETRC")}
	if paths[0] == "" {
		if home == "" {
			return Key{}, nil
		}
		paths = []string{filepath.Join(home, ".netrc"), filepath.Join(home, "_netrc")}
	}
	for _, machine := range machines {
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return Key{}, fmt.Errorf("looking for the key of W&B: %w", err)
			}
			if password := netrc(string(content), machine); password != "" {
				return NewKey(password), nil
			}
		}
	}
	return Key{}, nil
}

// netrc is the password of a machine in the text of a netrc file. Macros are skipped.
func netrc(text, machine string) string {
	var words []string
	macro := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if macro {
			macro = len(fields) > 0 // up to the next empty line
			continue
		}
		for i, word := range fields {
			if strings.HasPrefix(word, "#") && (i == 0 || len(words) == 0 || words[len(words)-1] != "password") {
				break
			}
			if word == "macdef" {
				macro = true
				break
			}
			words = append(words, word)
		}
	}
	here := false
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "machine":
			i++
			here = i < len(words) && words[i] == machine
		case "default":
			here = false // a password for any machine is not one for this
		case "login", "account":
			i++
		case "password":
			if i++; here && i < len(words) {
				return words[i]
			}
		}
	}
	return ""
}

// check says what is wrong with a key, without showing it.
func (k Key) check() error {
	secret := k.secret
	if strings.Count(secret, ".") == 2 { // a JSON Web Token
		return nil
	}
	if _, after, found := strings.Cut(secret, "-"); found {
		secret = after
	}
	if len(secret) < 40 {
		return fmt.Errorf("the key of W&B is too short: it has %d letters, a key has 40 or more", len(secret))
	}
	for _, r := range secret {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", r) {
			return errors.New("the key of W&B has a letter that no key has")
		}
	}
	return nil
}

// readINI reads the section [default] of a settings file. A file that does not exist is
// empty.
func readINI(path string) (map[string]string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading the settings of W&B: %w", err)
	}
	values, here := map[string]string{}, false
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			here = line == "[default]"
			continue
		}
		if at := strings.IndexAny(line, "=:"); here && at > 0 {
			values[strings.ToLower(strings.TrimSpace(line[:at]))] = strings.TrimSpace(line[at+1:])
		}
	}
	return values, nil
}

func parseHeaders(text string) (headers map[string]string, err error) {
	if json.Unmarshal([]byte(text), &headers) != nil {
		return nil, errors.New("not a JSON object of texts") // the text may hold a secret
	}
	return headers, nil
}
