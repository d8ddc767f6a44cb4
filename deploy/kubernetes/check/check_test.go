// Package check checks the manifests against the types of Kubernetes and CloudNativePG: it builds each kustomization, decodes
// every object strictly, so that an unknown field or one of the wrong type fails, and checks that nothing required is missing.
// It is a separate module, to keep those types out of the service's.
package check

import (
	"slices"
	"strings"
	"testing"

	cnpg "github.com/cloudnative-pg/api/pkg/api/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// types are all that may be used, by apiVersion and kind.
var types = map[string]func() any{
	"v1 Namespace":                           func() any { return new(corev1.Namespace) },
	"v1 ServiceAccount":                      func() any { return new(corev1.ServiceAccount) },
	"v1 Service":                             func() any { return new(corev1.Service) },
	"apps/v1 Deployment":                     func() any { return new(appsv1.Deployment) },
	"batch/v1 Job":                           func() any { return new(batchv1.Job) },
	"policy/v1 PodDisruptionBudget":          func() any { return new(policyv1.PodDisruptionBudget) },
	"autoscaling/v2 HorizontalPodAutoscaler": func() any { return new(autoscalingv2.HorizontalPodAutoscaler) },
	"networking.k8s.io/v1 NetworkPolicy":     func() any { return new(networkingv1.NetworkPolicy) },
	"postgresql.cnpg.io/v1 Cluster":          func() any { return new(cnpg.Cluster) },
}

// build builds a kustomization and returns its objects, by apiVersion and kind.
func build(t *testing.T, dir string) map[string]any {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	objects := make(map[string]any)
	for _, r := range resources.Resources() {
		kind := r.GetApiVersion() + " " + r.GetKind()
		if types[kind] == nil {
			t.Errorf("%s: %s %s is of no known type", dir, kind, r.GetName())
			continue
		}
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object := types[kind]()
		if err := yaml.UnmarshalStrict(text, object); err != nil {
			t.Errorf("%s: %s %s: %v", dir, kind, r.GetName(), err)
		}
		if r.GetNamespace() != "passbook" && r.GetKind() != "Namespace" {
			t.Errorf("%s: %s %s is in the namespace %q", dir, kind, r.GetName(), r.GetNamespace())
		}
		if objects[kind] != nil {
			t.Errorf("%s: more than one %s", dir, kind)
		}
		objects[kind] = object
	}
	return objects
}

func TestManifests(t *testing.T) {
	t.Parallel()
	for dir, kinds := range map[string]int{"../base": len(types) - 1, "../cloudnative-pg": len(types)} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			objects := build(t, dir)
			if len(objects) != kinds {
				t.Fatalf("%d kinds of objects, want %d", len(objects), kinds)
			}
			deployment := objects["apps/v1 Deployment"].(*appsv1.Deployment)
			job := objects["batch/v1 Job"].(*batchv1.Job)
			budget := objects["policy/v1 PodDisruptionBudget"].(*policyv1.PodDisruptionBudget)
			scaler := objects["autoscaling/v2 HorizontalPodAutoscaler"].(*autoscalingv2.HorizontalPodAutoscaler)
			account := objects["v1 ServiceAccount"].(*corev1.ServiceAccount)
			if *deployment.Spec.Replicas < 2 || *scaler.Spec.MinReplicas < 2 || budget.Spec.MinAvailable.IntValue() < 1 {
				t.Error("fewer than two instances, or all of them may be taken away at once")
			}
			if deployment.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
				t.Error("an update takes an instance away before another is there")
			}
			if *account.AutomountServiceAccountToken {
				t.Error("the service account has a token")
			}
			restricted(t, "Deployment", &deployment.Spec.Template.Spec)
			restricted(t, "Job", &job.Spec.Template.Spec)
			if got := job.Spec.Template.Spec.Containers[0].Args; !slices.Equal(got, []string{"migrate"}) {
				t.Errorf("the job runs server %q", got)
			}
			serves(t, &deployment.Spec.Template.Spec.Containers[0])
			selected(t, objects, deployment.Spec.Template.Labels)
		})
	}
}

// restricted checks a pod against the restricted profile of the Pod Security Standards, and also that its root file system
// is read-only and that secrets are files.
func restricted(t *testing.T, of string, pod *corev1.PodSpec) {
	t.Helper()
	if *pod.AutomountServiceAccountToken || !*pod.SecurityContext.RunAsNonRoot ||
		pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the pod is not restricted", of)
	}
	for i := range pod.Containers {
		c := &pod.Containers[i]
		s := c.SecurityContext
		if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Contains(s.Capabilities.Drop, "ALL") {
			t.Errorf("%s: the container %s is not restricted", of, c.Name)
		}
		if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: the container %s has no bounds", of, c.Name)
		}
		for _, e := range c.Env {
			if strings.HasSuffix(e.Name, "DATABASE_URL") || e.ValueFrom != nil {
				t.Errorf("%s: %s is a secret in the environment", of, e.Name)
			}
		}
	}
}

// serves checks the settings of the service's container.
func serves(t *testing.T, c *corev1.Container) {
	t.Helper()
	env := make(map[string]string)
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	for name, want := range map[string]string{
		"PASSBOOK_AUTH": "keys", "DATABASE_URL_FILE": "/run/secrets/passbook/database-url",
		"PASSBOOK_QUERY_DATABASE_URL_FILE": "/run/secrets/passbook/query-database-url", "PASSBOOK_INSECURE": "",
	} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	if c.LivenessProbe.HTTPGet.Path != "/livez" || c.StartupProbe.HTTPGet.Path != "/livez" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Error("the probes do not ask where they should")
	}
}

// selected makes sure that what selects the pods of the service does.
func selected(t *testing.T, objects map[string]any, labels map[string]string) {
	t.Helper()
	for what, selector := range map[string]map[string]string{
		"Deployment":          objects["apps/v1 Deployment"].(*appsv1.Deployment).Spec.Selector.MatchLabels,
		"Service":             objects["v1 Service"].(*corev1.Service).Spec.Selector,
		"PodDisruptionBudget": objects["policy/v1 PodDisruptionBudget"].(*policyv1.PodDisruptionBudget).Spec.Selector.MatchLabels,
		"NetworkPolicy":       objects["networking.k8s.io/v1 NetworkPolicy"].(*networkingv1.NetworkPolicy).Spec.PodSelector.MatchLabels,
	} {
		if len(selector) == 0 {
			t.Errorf("the %s selects everything", what)
		}
		for name, value := range selector {
			if labels[name] != value {
				t.Errorf("the %s selects pods with %s=%s, and the pods of the service have %q", what, name, value, labels[name])
			}
		}
	}
}
