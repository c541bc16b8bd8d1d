// SPDX-License-Identifier: Apache-2.0
//
// Who reaches the API, and how: the unix socket's owner and mode, TCP with mutual TLS and nothing less, health and
// reflection.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <grp.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <pwd.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

constexpr char kListen[] = "127.0.0.1:7443";

// Authorities and what they signed, as an operator makes them with openssl.
class Authority {
 public:
  Authority(std::string directory, const std::string& name) : directory_(std::move(directory)), name_(name) {
    std::filesystem::create_directories(directory_);
    Shell(absl::StrCat("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=",
                       name, " -keyout ", Path(".key"), " -out ", Path(".pem")));
  }
  // FILE.key and FILE.pem.
  void Sign(const std::string& file, const std::string& host) const {
    const std::string base = directory_ + "/" + file;
    std::ofstream(base + ".ext") << "subjectAltName=DNS:" << host << ",IP:127.0.0.1\n";
    Shell(absl::StrCat("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=", host,
                       " -keyout ", base, ".key -out ", base, ".csr"));
    Shell(absl::StrCat("openssl x509 -req -days 30 -in ", base, ".csr -CA ", Path(".pem"), " -CAkey ",
                       Path(".key"), " -CAcreateserial -extfile ", base, ".ext -out ", base, ".pem"));
  }
  std::string Path(const std::string& suffix) const { return directory_ + "/" + name_ + suffix; }

 private:
  std::string directory_, name_;
};

class AccessTest : public LiveGatewayTest {
 protected:
  AccessTest() : LiveGatewayTest("tls") {}

  std::string File(const std::string& name) { return agent().directory() + "/tls/" + name; }
  // One call of the health service from within the gateway's namespace, with curl's arguments for the connection.
  // gRPC over HTTP/2 is a POST of a length and a message; the answer is SERVING.
  bool Serves(const std::string& curl_arguments) {
    const std::string question = agent().directory() + "/question", answer = agent().directory() + "/answer";
    std::ofstream(question, std::ios::binary) << std::string(5, '\0');
    std::filesystem::remove(answer);
    TryShell(absl::StrCat("nsenter --net=/run/netns/", lab().Name("gw"), " curl -sS --max-time 10 -o ", answer,
                          " -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @", question, " ",
                          curl_arguments, "/grpc.health.v1.Health/Check"));
    std::ifstream file(answer, std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return content == std::string("\0\0\0\0\2\x08\x01", 7);
  }
  std::string Tls(const std::string& ca, const std::string& client) {
    return absl::StrCat(
        "--http2 --cacert ", File(ca),
        client.empty() ? "" : absl::StrCat(" --cert ", File(client), ".pem --key ", File(client), ".key"),
        " https://", kListen);
  }
  std::map<std::string, std::string> TlsArguments() {
    return {{"--listen", kListen},
            {"--tls-cert", File("server.pem")},
            {"--tls-key", File("server.key")},
            {"--tls-client-ca", File("clients.pem")}};
  }
};

TEST_F(AccessTest, TheUnixSocketIsForOwnerAndGroup) {
  const std::string path = agent().directory() + "/headgated.sock";
  struct stat info {};
  NowAndAfterRestart([&] {
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0660U);
    EXPECT_EQ(info.st_uid, 0U);
  });
  const group* daemon = getgrnam("daemon");
  ASSERT_NE(daemon, nullptr);
  const gid_t daemon_id = daemon->gr_gid;
  RestartWith({{"--socket-group", "daemon"}});
  NowAndAfterRestart([&] {
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_gid, daemon_id);
    EXPECT_EQ(info.st_mode & 0777, 0660U);
  });
  // A member comes in, another does not.
  Shell("chmod 755 " + agent().directory());
  const auto as = [&](const std::string& group) {
    return TryShell(absl::StrCat("setpriv --reuid nobody --regid nogroup --groups ", group,
                                 " ncat -U --send-only ", path, " < /dev/null"));
  };
  EXPECT_EQ(as("daemon"), 0);
  EXPECT_NE(as("nogroup"), 0);
}

TEST_F(AccessTest, AGroupThatIsNoneIsAnError) {
  agent().Kill();
  const CommandResult result = RunAgent({{"--socket-group", "hgt-no-such-group"}});
  EXPECT_EQ(result.code, 1);
  EXPECT_TRUE(absl::StrContains(result.err, "hgt-no-such-group")) << result.err;
  agent().Start();
  ExpectDocumentInForce();
}

TEST_F(AccessTest, ASocketThatSomebodyListensOnIsLeftToThem) {
  const std::string other = agent().directory() + "/other";
  const CommandResult result =
      RunAgent({{"--state", other + ".db"}, {"--bpffs-directory", "other"}, {"--http", "127.0.0.1:9781"}});
  EXPECT_EQ(result.code, 1);
  EXPECT_TRUE(absl::StrContains(result.err, "another process listens")) << result.err;
  NowAndAfterRestart([&] { ExpectDocumentInForce(); });
}

TEST_F(AccessTest, TcpTakesMutualTlsAndNothingLess) {
  const Authority servers(File(""), "servers"), clients(File(""), "clients"), others(File(""), "others");
  servers.Sign("server", "gateway.example");
  clients.Sign("client", "operator.example");
  others.Sign("stranger", "operator.example");
  RestartWith(TlsArguments());
  NowAndAfterRestart([&] {
    EXPECT_TRUE(Serves(Tls("servers.pem", "client")));
    EXPECT_FALSE(Serves(Tls("servers.pem", ""))) << "without a certificate";
    EXPECT_FALSE(Serves(Tls("servers.pem", "stranger"))) << "with a certificate of another authority";
    EXPECT_FALSE(Serves(Tls("others.pem", "client"))) << "to a client that trusts another authority";
    EXPECT_FALSE(Serves(absl::StrCat("--http2-prior-knowledge http://", kListen))) << "without TLS";
    // hgctl likewise, and the socket beside it.
    const std::string hgctl =
        absl::StrCat(HG_HGCTL, " --address ", kListen, " --tls-ca ", File("servers.pem"), " --tls-cert ");
    EXPECT_NO_THROW(
        lab().In("gw", absl::StrCat(hgctl, File("client.pem"), " --tls-key ", File("client.key"), " status")));
    EXPECT_ANY_THROW(lab().In("gw", absl::StrCat(hgctl, File("stranger.pem"), " --tls-key ", File("stranger.key"),
                                                 " status --timeout 5s")));
    ExpectDocumentInForce();
  });
}

TEST_F(AccessTest, CertificatesAreReadAgainWhenTheyChange) {
  const Authority servers(File(""), "servers"), clients(File(""), "clients"), next(File(""), "next");
  servers.Sign("server", "gateway.example");
  clients.Sign("client", "operator.example");
  std::filesystem::copy_file(File("clients.pem"), File("former.pem"));
  next.Sign("renewed", "gateway.example");
  next.Sign("client2", "operator.example");
  RestartWith(TlsArguments());
  ASSERT_TRUE(Serves(Tls("servers.pem", "client")));
  ASSERT_FALSE(Serves(Tls("next.pem", "client2")));
  for (const char* suffix : {".key", ".pem"}) {
    std::filesystem::rename(File("renewed") + suffix, File("server") + suffix);
  }
  std::filesystem::copy_file(File("next.pem"), File("clients.pem"),
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(WaitFor([&] { return Serves(Tls("next.pem", "client2")); }, std::chrono::seconds(60)));
  EXPECT_FALSE(Serves(Tls("next.pem", "client"))) << "an authority that is none any more";
  ExpectDocumentInForce();

  // Files that are none for a while are no reason to let everybody in, or to read no more.
  for (const char* file : {"server.key", "clients.pem"}) {
    const std::string good = File(file) + ".good";
    std::filesystem::copy_file(File(file), good);
    std::ofstream(File(file)) << "garbage";
    EXPECT_FALSE(Serves(Tls("next.pem", "client")));
    std::filesystem::rename(good, File(file));
  }
  std::filesystem::copy_file(File("former.pem"), File("clients.pem"),
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(WaitFor([&] { return Serves(Tls("next.pem", "client")); }, std::chrono::seconds(60)));
  EXPECT_FALSE(Serves(Tls("next.pem", "client2")));
}

TEST_F(AccessTest, TcpWithoutTlsIsForLoopbackAndOnRequest) {
  agent().Kill();
  const auto refused = [&](const std::map<std::string, std::string>& arguments, const std::string& why) {
    const CommandResult result = RunAgent(arguments);
    EXPECT_NE(result.code, 0);
    EXPECT_TRUE(absl::StrContains(result.err, why)) << result.err;
  };
  refused({{"--listen", "127.0.0.1:7443"}}, "needs mutual TLS");
  refused({{"--listen", "0.0.0.0:7443"}, {"--insecure-loopback", ""}}, "needs mutual TLS");
  refused({{"--listen", "[::]:7443"}, {"--insecure-loopback", ""}}, "needs mutual TLS");
  refused({{"--listen", "192.0.2.1:7443"}, {"--insecure-loopback", ""}}, "needs mutual TLS");
  refused({{"--listen", "7443"}, {"--insecure-loopback", ""}}, "ADDRESS:PORT");
  refused({{"--listen", "127.0.0.1:"}, {"--insecure-loopback", ""}}, "ADDRESS:PORT");
  for (const char* address : {"127.0.0.1:7443", "[::1]:7443", "localhost:7443"}) {
    agent().Start(Options({{"--listen", address}, {"--insecure-loopback", ""}}));
    EXPECT_TRUE(Serves(absl::StrCat("--http2-prior-knowledge 'http://", address, "'"))) << address;
    ExpectDocumentInForce();
    agent().Kill();
  }
  // An address in use is an error, not a server that is not there.
  agent().Start(Options({{"--listen", "127.0.0.1:7443"}, {"--insecure-loopback", ""}}));
  refused({{"--listen", "127.0.0.1:7443"},
           {"--insecure-loopback", ""},
           {"--state", agent().directory() + "/other.db"},
           {"--bpffs-directory", "other"},
           {"--socket", agent().directory() + "/other.sock"},
           {"--http", "127.0.0.1:9781"}},
          "cannot listen");
}

TEST_F(AccessTest, PartsOfTlsAreRefused) {
  const Authority servers(File(""), "servers"), clients(File(""), "clients");
  servers.Sign("server", "gateway.example");
  agent().Kill();
  for (const char* without : {"--tls-cert", "--tls-key", "--tls-client-ca"}) {
    auto arguments = TlsArguments();
    arguments.erase(without);
    arguments.insert({"--insecure-loopback", ""});
    const CommandResult result = RunAgent(arguments);
    EXPECT_NE(result.code, 0);
    EXPECT_TRUE(absl::StrContains(result.err, "TLS needs all of")) << result.err;
    arguments[without] = File("missing.pem");
    EXPECT_TRUE(absl::StrContains(RunAgent(arguments).err, "missing.pem"));
  }
}

// ---- health and reflection ----------------------------------------------------------------------------------

std::string Content(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

// One message to a bidirectional stream or a unary method, and the answer: Debian has no C++ stubs of these
// services.
std::string Ask(const std::string& address, const std::string& method, const std::string& message) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  grpc::CompletionQueue queue;
  const auto done = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const auto call = stub.PrepareCall(&context, method, &queue);
  call->StartCall(nullptr);
  EXPECT_TRUE(done());
  const grpc::Slice slice(message);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), {}, nullptr);
  EXPECT_TRUE(done());
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  EXPECT_TRUE(done());
  grpc::Status status;
  call->Finish(&status, nullptr);
  EXPECT_TRUE(done());
  EXPECT_TRUE(status.ok()) << status.error_message();
  return Content(answer);
}

TEST_F(AccessTest, TellsItsHealth) {
  NowAndAfterRestart([&] {
    EXPECT_TRUE(api().Healthy());
    EXPECT_EQ(Ask(agent().address(), "/grpc.health.v1.Health/Check", ""), "\x08\x01");
    // By the service's name (field 1 of HealthCheckRequest).
    EXPECT_EQ(Ask(agent().address(), "/grpc.health.v1.Health/Check", "\x0a\x13headgate.v1.Gateway"), "\x08\x01");
  });
  Client gone(agent().address());
  agent().Kill();
  EXPECT_FALSE(gone.Healthy());
}

TEST_F(AccessTest, DescribesItself) {
  constexpr char kMethod[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  NowAndAfterRestart([&] {
    // list_services is field 7 of ServerReflectionRequest, file_containing_symbol field 4.
    const std::string services = Ask(agent().address(), kMethod, std::string("\x3a\x01*", 3));
    EXPECT_TRUE(absl::StrContains(services, "headgate.v1.Gateway"));
    EXPECT_TRUE(absl::StrContains(services, "grpc.health.v1.Health"));
    const std::string file = Ask(agent().address(), kMethod, "\x22\x13headgate.v1.Gateway");
    for (const char* name : {"headgate/v1/gateway.proto", "ApplyRequest", "headgate/v1/config.proto"}) {
      EXPECT_TRUE(absl::StrContains(file, name)) << name;
    }
  });
}

}  // namespace
}  // namespace headgate::testing
