package apachekafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// oldestJava is the first that Apache Kafka 4's brokers run on.
const oldestJava = 17

// Java returns the program java: that of JAVA_HOME if it is set, as for
// Maven, or else the one that the shell finds.
func Java(ctx context.Context) (string, error) {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	path, err := exec.LookPath(java)
	if err != nil {
		return "", fmt.Errorf("find Java: %w: install a JDK %d or newer, or set JAVA_HOME", err, oldestJava)
	}
	out, err := exec.CommandContext(ctx, path, "-XshowSettings:properties", "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w\n%s", path, err, out)
	}
	version, err := javaVersion(out)
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	if version < oldestJava {
		return "", fmt.Errorf("%s is Java %d: Apache Kafka %s needs %d or newer: install one, or set JAVA_HOME", path, version, Version, oldestJava)
	}
	return path, nil
}

// javaVersion reads the properties that java prints. Those before Java 9 call
// themselves 1.x.
func javaVersion(properties []byte) (int, error) {
	found := regexp.MustCompile(`java\.specification\.version = (?:1\.)?(\d+)`).FindSubmatch(properties)
	if found == nil {
		return 0, errors.New("it does not say")
	}
	return strconv.Atoi(string(found[1]))
}

// javaEnv is what a broker inherits of our environment: nothing that would set
// its JVM otherwise than we do.
func javaEnv() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
