package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
)

// inContainer is the prefix of TEST_POSTGRES when it names an image.
const inContainer = "container:"

// containerImage returns the image that TEST_POSTGRES names, or "".
func containerImage() (string, error) {
	choice := os.Getenv("TEST_POSTGRES")
	image, ok := strings.CutPrefix(choice, inContainer)
	switch {
	case choice == "":
		return "", nil
	case !ok || image == "":
		return "", fmt.Errorf("TEST_POSTGRES is %q, and must have the form %spostgres:18", choice, inContainer)
	case os.Getenv("TEST_DATABASE_URL") != "":
		return "", errors.New("TEST_POSTGRES and TEST_DATABASE_URL name two servers")
	}
	return image, nil
}

// startContainer starts a server of the image, and returns its URL.
func startContainer(ctx context.Context, image string) (url string, err error) {
	container, err := postgres.Run(ctx, image, postgres.BasicWaitStrategies(), postgres.WithUsername("postgres"),
		testcontainers.WithCmdArgs("-c", "max_connections=300", "-c", "full_page_writes=off"))
	if container != nil { // also when it did not become ready
		server.stopContainer = func(ctx context.Context) error {
			return testcontainers.TerminateContainer(container, testcontainers.StopContext(ctx))
		}
	}
	if err != nil {
		return "", err
	}
	return container.ConnectionString(ctx, "sslmode=disable")
}
