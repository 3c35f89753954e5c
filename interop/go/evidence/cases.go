package evidence

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

type productCheck struct {
	Name string
	OK   bool
}

type productCase struct {
	Name    string
	Genuine bool
	File    string
	Checks  []productCheck
}

// RunCases reads the lines of make-evidence.mts. A genuine file must pass, any other must fail, each check must have the
// result that the product gave it, and no genuine file may survive the change of any of its values.
func RunCases(path string, report func(name string, err error)) error {
	opened, err := os.Open(path)
	if err != nil {
		return err
	}
	defer opened.Close()
	lines := bufio.NewReader(opened)
	for decoder, genuine := json.NewDecoder(lines), 0; ; {
		if !decoder.More() {
			if genuine == 0 {
				return errors.New("no genuine evidence file among the cases")
			}
			return nil
		}
		var c productCase
		if err := decoder.Decode(&c); err != nil {
			return err
		}
		verb := "refuses"
		if c.Genuine {
			verb = "accepts"
			genuine++
		}
		result := Verify([]byte(c.File))
		report(fmt.Sprintf("evidence: %s %s", verb, c.Name), judge(result, &c))
		report(fmt.Sprintf("evidence: same checks as the product: %s", c.Name), sameChecks(result, c.Checks))
		if c.Genuine {
			tried, err := tamper(c.File)
			report(fmt.Sprintf("evidence: refuses %d changed values of %s", tried, c.Name), err)
		}
	}
}

func judge(result *Result, c *productCase) error {
	if result.OK() == c.Genuine {
		return nil
	}
	return fmt.Errorf("failing checks: %v", failing(result))
}

func failing(result *Result) (names []string) {
	for _, check := range result.Checks {
		if check.Err != nil {
			names = append(names, fmt.Sprintf("%s (%v)", check.Name, check.Err))
		}
	}
	return names
}

func sameChecks(result *Result, product []productCheck) error {
	var ours, theirs []string
	for _, check := range result.Checks {
		ours = append(ours, fmt.Sprintf("%s=%t", check.Name, check.Err == nil))
	}
	for _, check := range product {
		theirs = append(theirs, fmt.Sprintf("%s=%t", check.Name, check.OK))
	}
	if slices.Equal(ours, theirs) {
		return nil
	}
	only := func(a, b []string) (out []string) {
		for _, name := range a {
			if !slices.Contains(b, name) {
				out = append(out, name)
			}
		}
		return out
	}
	return fmt.Errorf("here %v, product %v", only(ours, theirs), only(theirs, ours))
}

// tamper changes every value of a file in several ways, one at a time. The delivery receipt's body is left out: nobody
// has signed it (docs/spec/evidence.md §4).
func tamper(text string) (tried int, err error) {
	var root any
	if err := json.Unmarshal([]byte(text), &root); err != nil {
		return 0, err
	}
	attempt := func(path, what string) {
		changed, marshalErr := json.Marshal(root)
		tried++
		if err == nil && marshalErr == nil && Verify(changed).OK() {
			err = fmt.Errorf("%s: %s is accepted", path, what)
		}
		err = errors.Join(err, marshalErr)
	}
	var walk func(node any, path string, set func(any))
	walk = func(node any, path string, set func(any)) {
		switch value := node.(type) {
		case map[string]any:
			for name, element := range value {
				walk(element, path+"."+name, func(other any) { value[name] = other })
			}
			value["unknown"] = 1
			attempt(path, "an unknown field")
			delete(value, "unknown")
		case []any:
			for i, element := range value {
				walk(element, fmt.Sprintf("%s[%d]", path, i), func(other any) { value[i] = other })
			}
		case float64:
			for _, other := range []any{value + 1, value - 1, value + 0.5, fmt.Sprint(value)} {
				set(other)
				attempt(path, fmt.Sprint(other))
			}
			set(value)
		case string:
			if strings.HasSuffix(path, ".receipt.body") {
				return
			}
			for _, other := range variants(value) {
				set(other)
				attempt(path, "another text")
			}
			set(nil)
			attempt(path, "null")
			set(value)
		}
	}
	walk(root, "", func(other any) { root = other })
	return tried, err
}

// variants are a text with one character changed, at up to 24 places, and the text longer, shorter and empty.
func variants(value string) []string {
	list := []string{value + "A", value + "\n", " " + value}
	if value == "" {
		return list
	}
	list = append(list, "", value[:len(value)-1])
	letters := []rune(value)
	for i := range min(24, len(letters)) {
		at := i * (len(letters) - 1) / max(1, min(24, len(letters))-1)
		other := slices.Clone(letters)
		other[at] = 'a'
		if letters[at] == 'a' {
			other[at] = 'b'
		}
		list = append(list, string(other))
	}
	return list
}
