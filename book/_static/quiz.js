// Counts what was right at the first try. Without this script each choice still opens to its
// feedback: it is a <details> element. Nothing is stored and nothing is sent.
document.querySelectorAll(".quiz").forEach((quiz) => {
  const questions = [...quiz.querySelectorAll(".quiz-question")];
  const score = quiz.querySelector(".quiz-score");
  const first = new Map(); // question -> was its first choice right?

  const again = document.createElement("button");
  again.type = "button";
  again.className = "quiz-again";
  again.textContent = "Start again";
  again.hidden = true;
  again.addEventListener("click", () => {
    first.clear();
    quiz.querySelectorAll("details").forEach((choice) => (choice.open = false));
    show();
    questions[0].querySelector("summary").focus();
  });
  score.after(again);

  function show() {
    const right = [...first.values()].filter(Boolean).length;
    const left = questions.length - first.size;
    again.hidden = first.size === 0;
    score.textContent =
      first.size === 0 ? "" : `${right} of ${first.size} right at the first try. ${left} to go.`;
  }

  questions.forEach((question) => {
    question.querySelectorAll("details").forEach((choice) => {
      choice.addEventListener("toggle", () => {
        if (choice.open && !first.has(question)) {
          first.set(question, choice.classList.contains("right"));
          show();
        }
      });
    });
  });
});
