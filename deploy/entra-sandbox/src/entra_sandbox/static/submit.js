// response_mode=form_post: go on at once; without scripts the person presses Continue.
document.getElementById("form-post").submit();
